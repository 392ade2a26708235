//! The HTML pages. Each is one answer that contains its style, script and data, so that a browser
//! shows it without a second request and never contacts another site.
//!
//! The live pages draw themselves with Preact and htm, which stand in `page/vendor` as npm has
//! them: what moves every second keeps its focus and its place without code of ours.

use std::io::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::call::Call;
use super::reply::Reply;

/// The description of the HTTP interface, in OpenAPI 3.1.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// A script of several files, in this order.
macro_rules! script {
    ($($file:literal),+) => { concat!($(include_str!(concat!("page/", $file))),+) };
}

/// The same for a live page, behind what all of them need.
macro_rules! live {
    ($($file:literal),+) => {
        script!(
            "vendor/preact.min.js", "vendor/htm.umd.js", "common.js", "words.js", "live.js",
            "pieces.js",
            $($file),+
        )
    };
}

/// `GET /`: the jobs, their runs, and balances, live.
pub(super) static DASHBOARD: LazyLock<Page> = LazyLock::new(|| {
    let script = live!(
        "actions.js",
        "edit.js",
        "jobs.js",
        "lanes.js",
        "timeline.js",
        "history.js",
        "user.js",
        "dashboard.js"
    );
    let style = concat!(include_str!("page/dashboard.css"), include_str!("page/user.css"));
    Page::live(".", style, script)
});

/// `GET /jobs/{name}`: one job, with its settings, runs and changes.
pub(super) static JOB: LazyLock<Page> = LazyLock::new(|| {
    let script = live!("actions.js", "edit.js", "history.js", "log.js", "job.js");
    Page::live("..", include_str!("page/job.css"), script)
});

/// `GET /runs/{id}`: one run, with its log.
pub(super) static RUN: LazyLock<Page> = LazyLock::new(|| {
    Page::live("..", include_str!("page/job.css"), live!("actions.js", "log.js", "run.js"))
});

/// `GET /users/{id}`: one user's balance and changes.
pub(super) static USER: LazyLock<Page> = LazyLock::new(|| {
    Page::live("..", include_str!("page/user.css"), live!("user.js", "changes.js"))
});

/// `GET /api-docs`: documents the HTTP interface, and lets people try requests.
pub(super) static DOCUMENTATION: LazyLock<Page> = LazyLock::new(|| {
    let script = script!("common.js", "openapi.js", "try.js", "docs.js");
    Page::new(include_str!("page/docs.html"), include_str!("page/docs.css"), script)
});

/// `GET /openapi.json`.
pub(super) static OPENAPI: LazyLock<Page> =
    LazyLock::new(|| Page::of("application/json", DOCUMENT.to_owned(), None));

/// An answer that is the same for as long as the process lives.
#[derive(Debug)]
pub struct Page {
    media: &'static str,
    body: String,
    zipped: Vec<u8>,
    policy: Option<String>,
    /// The `ETag`, with its quotes: a browser that has the page already gets a short answer.
    tag: String,
}

const STYLE: &str = "<style></style>";
const SCRIPT: &str = "<script></script>";
const DATA: &str = "<script type=\"application/json\" id=\"document\"></script>";

impl Page {
    /// A page that draws itself; `root` is the way from it to the dashboard, as a relative address.
    fn live(root: &str, style: &str, script: &str) -> Page {
        let html = include_str!("page/page.html")
            .replace("data-root=\".\"", &format!("data-root=\"{root}\""));
        Page::new(&html, &[include_str!("page/live.css"), style].concat(), script)
    }

    /// The page may send requests to this server, and load nothing. Where it has a place for the
    /// interface's document, it gets that as JSON, which the policy need not allow, because a
    /// browser does not run it. There `<` is escaped, so that no text ends the element, and the
    /// indentation is left out, because no string of JSON holds a line's end.
    fn new(html: &str, style: &str, script: &str) -> Page {
        let style = compact(&[include_str!("page/common.css"), style].concat());
        let script = &compact(script);
        let policy = format!(
            "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action \
             'none'; frame-ancestors 'none'; style-src '{}'; script-src '{}'",
            checksum(&style),
            checksum(script)
        );
        let html = filled(&filled(html, STYLE, &style), SCRIPT, script);
        let json: String = DOCUMENT.lines().map(str::trim_start).collect();
        let html = filled(&html, DATA, &json.replace('<', "\\u003c"));
        Page::of("text/html; charset=utf-8", html, Some(policy))
    }

    fn of(media: &'static str, body: String, policy: Option<String>) -> Page {
        let tag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(&body)[..12]));
        let mut zipped = GzEncoder::new(Vec::new(), Compression::best());
        // Writing into memory cannot fail.
        let _ = zipped.write_all(body.as_bytes());
        let zipped = zipped.finish().unwrap_or_default();
        Page { media, body, zipped, policy, tag }
    }

    pub(super) fn reply(&'static self, call: &Call) -> Reply {
        let zipped = takes_gzip(call);
        let reply = match (self.is_known(call), zipped) {
            (true, _) => Reply::not_modified(),
            (false, false) => Reply::constant(self.media, self.body.as_bytes()),
            (false, true) => {
                Reply::constant(self.media, &self.zipped).with_header("Content-Encoding", "gzip")
            }
        };
        // Other bytes have the same tag: there it is a weak one (RFC 9110, 8.8.1).
        let tag = if zipped { format!("W/{}", self.tag) } else { self.tag.clone() };
        let reply = reply.cached("no-cache").with_header("ETag", tag);
        let reply = reply.with_header("Vary", "Accept-Encoding");
        self.policy.iter().fold(reply, |reply, policy| reply.with_policy(policy))
    }

    /// Whether the client has this very page, compressed or not, so tags are compared weakly
    /// (RFC 9110, 8.8.3.2).
    fn is_known(&self, call: &Call) -> bool {
        let tags = call.if_none_match.as_deref().unwrap_or_default().split(',').map(str::trim);
        tags.map(|tag| tag.trim_start_matches("W/")).any(|tag| tag == self.tag || tag == "*")
    }
}

/// A style or a script without indentation, and without comments that have lines of their own.
fn compact(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut in_comment = false;
    for line in source.lines().map(str::trim_start) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            kept.extend([line, "\n"]);
        }
        in_comment &= !line.ends_with("*/");
    }
    kept
}

/// Whether the client takes gzip: it names it, and with no weight of 0 (RFC 9110, 12.5.3).
fn takes_gzip(call: &Call) -> bool {
    let codings = call.accept_encoding.as_deref().unwrap_or_default().split(',').map(str::trim);
    codings.map(|coding| coding.replace(' ', "")).any(|coding| match coding.split_once(";q=") {
        None => coding.eq_ignore_ascii_case("gzip"),
        Some((name, weight)) => {
            name.eq_ignore_ascii_case("gzip")
                && weight.parse().is_ok_and(|weight: f32| weight > 0.0)
        }
    })
}

/// Puts `content` into the empty `element` of `html`.
fn filled(html: &str, element: &str, content: &str) -> String {
    let (begin, end) = element.split_once("><").expect("an element with nothing in it");
    html.replacen(element, &format!("{begin}>{content}<{end}"), 1)
}

/// The policy must name this hash of an inline style or script, else the browser ignores it
/// (Content Security Policy Level 3, 2.3.1).
fn checksum(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the interface's document, which is data of one page.
    const BYTES_MAX: usize = 100_000;

    #[test]
    fn every_page_is_whole_small_and_asks_nobody_else() {
        for page in [&*DASHBOARD, &*JOB, &*RUN, &*USER, &*DOCUMENTATION] {
            let html = &page.body;
            for empty in [STYLE, SCRIPT, DATA] {
                assert!(!html.contains(empty), "{empty} was not filled");
            }
            let data = html.find("id=\"document\"").map_or(0, |_| DOCUMENT.len());
            assert!(html.len() < BYTES_MAX + data, "{} bytes", html.len());
            for elsewhere in ["<link rel=\"stylesheet\"", " src=", "@import", "url(", "//cdn"] {
                assert!(!html.contains(elsewhere), "{elsewhere}");
            }
            assert_eq!(html.matches("</script>").count(), html.matches("<script").count());
            let policy = page.policy.as_deref().unwrap_or_default();
            assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        }
    }

    #[test]
    fn comments_and_indentation_are_left_out() {
        let source = "// One\n/** Two:\n * more. */\n    let a = b\n        * c; // three\n\n\
                      /* x */\nd();\n";
        assert_eq!(compact(source), "let a = b\n* c; // three\nd();\n");
    }

    #[test]
    fn a_page_is_compressed_for_who_names_that() {
        let takes = |field: &str| {
            takes_gzip(&Call { accept_encoding: Some(field.to_owned()), ..Call::default() })
        };
        for yes in ["gzip", "br, GZIP", "deflate, gzip;q=0.5", "gzip; q=1.0"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip;q=0.0, br", "x-gzip", "*"] {
            assert!(!takes(no), "{no}");
        }
        assert!(DASHBOARD.zipped.len() < 35_000, "{} bytes", DASHBOARD.zipped.len());
    }

    #[test]
    fn a_checksum_is_as_browsers_compute_it() {
        let known = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert_eq!(checksum("abc"), known);
    }

    /// As npm has them: preact 10.29.8 and htm 3.1.1.
    #[test]
    fn the_libraries_are_as_they_were_published() {
        for (file, published) in [
            (
                include_str!("page/vendor/preact.min.js"),
                "sha256-JaoAl4/vluT9ACDMcjpBw7Gh6BycCH7/Jqd+B6SGfo4=",
            ),
            (
                include_str!("page/vendor/htm.umd.js"),
                "sha256-ejF3bgS9Sv3g1DCBd9JvN3cW/PfkvXC+WQdG1qpZTwg=",
            ),
        ] {
            assert_eq!(checksum(file), published);
        }
    }
}
