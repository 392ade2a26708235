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
    Page::new(include_str!("page/dashboard.html"))
        .with_style(concat!(include_str!("page/common.css"), include_str!("page/dashboard.css")))
        .with_script(concat!(
            include_str!("page/common.js"),
            include_str!("page/jobs.js"),
            include_str!("page/timeline.js"),
            include_str!("page/history.js"),
            include_str!("page/balance.js"),
            include_str!("page/dashboard.js"),
        ))
});

/// `GET /api-docs`: documents the HTTP interface, and lets people try requests.
pub(super) static DOCUMENTATION: LazyLock<Page> = LazyLock::new(|| {
    Page::new(include_str!("page/docs.html"))
        .with_style(concat!(include_str!("page/common.css"), include_str!("page/docs.css")))
        .with_script(concat!(
            include_str!("page/common.js"),
            include_str!("page/openapi.js"),
            include_str!("page/try.js"),
            include_str!("page/docs.js"),
        ))
        .with_document(DOCUMENT)
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
    /// The page may send requests to this server, and load nothing.
    fn new(html: &str) -> Page {
        let policy = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
        Page { html: html.to_owned(), policy: policy.to_owned() }
    }

    fn with_style(self, style: &str) -> Page {
        let policy = format!("{}; style-src '{}'", self.policy, checksum(style));
        Page { html: filled(&self.html, STYLE, style), policy }
    }

    fn with_script(self, script: &str) -> Page {
        let policy = format!("{}; script-src '{}'", self.policy, checksum(script));
        Page { html: filled(&self.html, SCRIPT, script), policy }
    }

    /// Embeds JSON. The policy need not allow it, because a browser does not run it. `<` is escaped
    /// so that no text in it ends the element. JSON text has no line ends within strings, so the
    /// indentation can be left out.
    fn with_document(self, json: &str) -> Page {
        let json: String = json.lines().map(str::trim_start).collect();
        let html = filled(&self.html, DATA, &json.replace('<', "\\u003c"));
        Page { html, ..self }
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
