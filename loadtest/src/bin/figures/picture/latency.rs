//! Dots on a logarithmic scale: how long half, all but a hundredth, and all but a thousandth of the
//! answers take.

use super::canvas::Canvas;
use super::{NAMES_WIDTH, PANEL_WIDTH, PANELS, place};
use crate::compare::summary;
use crate::numbers::written;
use crate::page::people;
use crate::rows::Section;

const PERCENTILES: [(&str, &str); 3] = [("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")];
const ROW_HEIGHT: f64 = 22.0;
/// For the figures on the right.
const FIGURES_WIDTH: f64 = 124.0;
const COLUMN_WIDTH: f64 = 42.0;

/// Draws from `top` on and says where it ends.
pub(super) fn draw(canvas: &mut Canvas, section: &Section, top: f64) -> f64 {
    canvas.text(PANELS[0], top + 20.0, "heading", "Latency at half the capacity, in ms");
    for ((class, name), x) in PERCENTILES.into_iter().zip([0.0, 60.0, 120.0]) {
        canvas.dot(PANELS[1] + 240.0 + x, top + 15.0, class);
        canvas.text(PANELS[1] + 249.0 + x, top + 19.0, "muted", name);
    }
    let decades = decades(section);
    let ends = [("hot", PANELS[0]), ("cold", PANELS[1])].map(|(users, left)| {
        let panel = Panel { section, users, left, top: top + 32.0, decades };
        panel.draw(canvas)
    });
    ends[0].max(ends[1])
}

/// From which power of ten to which the scale goes.
fn decades(section: &Section) -> (f64, f64) {
    let latencies = section.series.iter().filter(|series| series.kind == "latency");
    let medians: Vec<f64> =
        latencies.filter_map(summary).map(|found| found.median.max(0.001).log10()).collect();
    let least = medians.iter().copied().fold(0.0, f64::min).floor();
    (least, medians.iter().copied().fold(least + 1.0, f64::max).ceil())
}

/// One kind of users.
struct Panel<'a> {
    section: &'a Section,
    users: &'a str,
    left: f64,
    top: f64,
    decades: (f64, f64),
}

impl Panel<'_> {
    fn draw(&self, canvas: &mut Canvas) -> f64 {
        canvas.text(self.left, self.top + 14.0, "panel", &people(self.users, "plain"));
        let right = self.left + PANEL_WIDTH;
        for ((_, name), column) in PERCENTILES.into_iter().zip([2.0, 1.0, 0.0]) {
            canvas.text(right - column * COLUMN_WIDTH, self.top + 32.0, "muted end", name);
        }
        let prefix = format!("{} ", self.users);
        let places = self.section.series.iter().filter(|series| series.kind == "rate");
        let places: Vec<&str> =
            places.filter_map(|series| series.case.strip_prefix(&prefix)).collect();
        let first = self.top + 40.0;
        let bottom = first + ROW_HEIGHT * places.len() as f64;
        self.draw_grid(canvas, first, bottom);
        for (number, of) in (0_u8..).zip(places) {
            self.draw_row(canvas, of, first + f64::from(number) * ROW_HEIGHT + 11.0);
        }
        bottom
    }

    fn draw_grid(&self, canvas: &mut Canvas, first: f64, bottom: f64) {
        let (least, most) = self.decades;
        let mut decade = least;
        while decade <= most {
            let x = self.x(decade);
            canvas.line((x, first - 4.0), (x, bottom), "grid");
            let ms = 10_f64.powf(decade);
            let name = if ms < 1.0 { format!("{ms}") } else { format!("{ms:.0}") };
            canvas.text(x, first - 8.0, "middle", &name);
            decade += 1.0;
        }
    }

    fn draw_row(&self, canvas: &mut Canvas, of: &str, y: f64) {
        let (replicas, path) = of.split_once(' ').unwrap_or((of, ""));
        canvas.text(self.left, y + 4.0, "", &place(replicas, path));
        let found = PERCENTILES.map(|(percentile, _)| {
            let case = format!("{} {of} {percentile}", self.users);
            Some(summary(self.section.get("latency", &case)?)?.median)
        });
        let xs: Vec<f64> = found.iter().flatten().map(|ms| self.x(ms.max(0.001).log10())).collect();
        if let (Some(first), Some(last)) = (xs.first(), xs.last()) {
            canvas.line((*first, y), (*last, y), "way");
        }
        let right = self.left + PANEL_WIDTH;
        for (index, ((class, _), ms)) in PERCENTILES.into_iter().zip(found).enumerate() {
            let Some(ms) = ms else { continue };
            canvas.dot(self.x(ms.max(0.001).log10()), y, class);
            canvas.text(right - (2 - index) as f64 * COLUMN_WIDTH, y + 4.0, "figure", &written(ms));
        }
    }

    fn x(&self, decade: f64) -> f64 {
        let (least, most) = self.decades;
        let width = PANEL_WIDTH - NAMES_WIDTH - FIGURES_WIDTH - 20.0;
        self.left + NAMES_WIDTH + 10.0 + (decade - least) / (most - least) * width
    }
}
