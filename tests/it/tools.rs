//! A run that left tests out does not look like one in which they passed.

use std::process::{Command, Output};

/// A test for each tool, which asks for it before it asks for another.
const ASKS: [(&str, &str); 10] = [
    ("haproxy", "door::a_length_that_is_plain_passes_however_it_is_written"),
    ("chromium", "pages::money::jobs_stay_live_while_the_balance_cannot_be_read"),
    ("firefox-esr", "firefox::the_dashboard_is_used_by_keyboard_alone"),
    ("axe", "axe::the_dashboard_keeps_nobody_out"),
    ("openapi-typescript", "openapi::client::a_generated_client_is_compiled_and_works"),
    ("pgbouncer", "faults::pooler::a_pooler_that_begins_to_mix_sessions_is_found_out"),
    ("isolationtester", "interleavings::a_claim_with_a_weaker_lock_is_found_out"),
    ("ip", "faults::network::a_network_that_drops_everything_is_noticed_and_survived"),
    ("systemd-analyze", "docs::the_unit_of_systemd_is_hardened"),
    ("promtool", "metrics::the_text_is_clean_and_has_whatever_the_alerts_and_their_page_name"),
];

/// The test by itself on a machine that lacks the tool.
fn without(tool: &str, test: &str, ci: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test]).env("WITHOUT_TOOLS", tool).env("CI", ci);
    command.output().expect("the test")
}

#[test]
fn a_missing_tool_is_named_and_fails_where_every_test_must_run() {
    for (tool, test) in ASKS {
        let left_out = without(tool, test, "");
        let told = String::from_utf8_lossy(&left_out.stderr);
        assert!(left_out.status.success(), "{tool}: {left_out:?}");
        assert!(told.contains(&format!("{test} is left out: {tool} is missing")), "{left_out:?}");
        let failed = without(tool, test, "true");
        let told = String::from_utf8_lossy(&failed.stdout);
        assert!(!failed.status.success(), "{tool}: {failed:?}");
        assert!(told.contains(&format!("{tool} is missing, and CI=true")), "{failed:?}");
    }
}
