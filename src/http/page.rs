//! The HTML pages. Each is one answer that contains its style, script and data, so that a browser
//! shows it without a second request and never contacts another site.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::reply::Reply;

/// The description of the HTTP interface, in OpenAPI 3.1.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /`: shows the jobs, their runs, and balances, and keeps them up to date.
pub(super) static DASHBOARD: LazyLock<Page> = LazyLock::new(|| {
    let script = concat!(
        include_str!("page/common.js"),
        include_str!("page/jobs.js"),
        include_str!("page/timeline.js"),
        include_str!("page/history.js"),
        include_str!("page/balance.js"),
        include_str!("page/dashboard.js"),
    );
    Page::new(include_str!("page/dashboard.html"), include_str!("page/dashboard.css"), script)
});

/// `GET /api-docs`: documents the HTTP interface, and lets people try requests.
pub(super) static DOCUMENTATION: LazyLock<Page> = LazyLock::new(|| {
    let script = concat!(
        include_str!("page/common.js"),
        include_str!("page/openapi.js"),
        include_str!("page/try.js"),
        include_str!("page/docs.js"),
    );
    Page::new(include_str!("page/docs.html"), include_str!("page/docs.css"), script)
});

/// A page that never changes, and its Content-Security-Policy.
pub(super) struct Page {
    html: String,
    policy: String,
}

const STYLE: &str = "<style></style>";
const SCRIPT: &str = "<script type=\"module\"></script>";
const DATA: &str = "<script type=\"application/json\" id=\"document\"></script>";

impl Page {
    /// The page may send requests to this server, and load nothing. Where it has a place for the
    /// interface's document, it gets that as JSON, which the policy need not allow, because a
    /// browser does not run it. There `<` is escaped, so that no text ends the element, and the
    /// indentation is left out, because no string of JSON holds a line's end.
    fn new(html: &str, style: &str, script: &str) -> Page {
        let style = [include_str!("page/common.css"), style].concat();
        let policy = format!(
            "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action \
             'none'; frame-ancestors 'none'; style-src '{}'; script-src '{}'",
            checksum(&style),
            checksum(script)
        );
        let html = filled(&filled(html, STYLE, &style), SCRIPT, script);
        let json: String = DOCUMENT.lines().map(str::trim_start).collect();
        Page { html: filled(&html, DATA, &json.replace('<', "\\u003c")), policy }
    }

    pub(super) fn reply(&'static self) -> Reply {
        Reply::constant("text/html; charset=utf-8", &self.html).with_policy(&self.policy)
    }
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

    const BYTES_MAX: usize = 180_000;

    #[test]
    fn every_page_is_whole_small_and_asks_nobody_else() {
        for page in [&*DASHBOARD, &*DOCUMENTATION] {
            let html = &page.html;
            for empty in [STYLE, SCRIPT, DATA] {
                assert!(!html.contains(empty), "{empty} was not filled");
            }
            assert!(html.len() < BYTES_MAX, "{} bytes", html.len());
            for elsewhere in ["<link rel=\"stylesheet\"", " src=", "@import", "url(", "//cdn"] {
                assert!(!html.contains(elsewhere), "{elsewhere}");
            }
            assert_eq!(html.matches("</script>").count(), html.matches("<script").count());
            assert_eq!(page.policy.matches("'sha256-").count(), 2, "{}", page.policy);
        }
    }

    #[test]
    fn a_checksum_is_as_browsers_compute_it() {
        let known = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert_eq!(checksum("abc"), known);
    }
}
