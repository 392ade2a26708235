//! Shapes and words, as SVG.

use std::fmt::Write;

/// Colours hold 4.5:1 for words and 3:1 for shapes against the white background.
const STYLE: &str = "\
text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; \
fill: #1f2328; font-variant-numeric: tabular-nums }
.heading { font-size: 16px; font-weight: 600 }
.panel { font-weight: 600 }
.muted { fill: #59636e; font-size: 11px }
.end { text-anchor: end }
.middle { fill: #59636e; font-size: 11px; text-anchor: middle }
.figure { text-anchor: end; font-size: 11px }
.grid { stroke: #d8dee4 }
.roof { stroke: #c4320a; stroke-width: 1.5; stroke-dasharray: 4 3 }
.roof-name { fill: #c4320a; font-size: 11px; text-anchor: middle }
.range { stroke: #1f2328 }
.few { fill: #1f5fbf }
.many { fill: #5c9be8 }
.way { stroke: #8c959f; stroke-width: 2 }
.p50 { fill: #1f5fbf }
.p99 { fill: #b45f06 }
.p999 { fill: #ffffff; stroke: #b3261e; stroke-width: 2 }
";

/// What was drawn so far. Writing into memory cannot fail, so those results are dropped.
#[derive(Default)]
pub(super) struct Canvas {
    body: String,
}

impl Canvas {
    /// Words whose base line begins here, or where their class says.
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
    }

    /// A filled box.
    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let _ = write!(self.body, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" "#);
        let _ = writeln!(self.body, r#"height="{height:.1}" class="{class}"/>"#);
    }

    /// A line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        );
    }

    /// A dot.
    pub(super) fn dot(&mut self, x: f64, y: f64, class: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" class="{class}"/>"#);
    }

    /// The whole document.
    pub(super) fn finish(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n\
             <title>Throughput as a share of PostgreSQL's own, and latencies</title>\n\
             <style>{STYLE}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" style=\"fill: #ffffff\"/>\n\
             {}</svg>\n",
            self.body
        )
    }
}
