//! Bars: how much of PostgreSQL's own throughput the service reaches.

use super::canvas::Canvas;
use super::{NAMES_WIDTH, PANEL_WIDTH, PANELS, place};
use crate::compare::{ratio, summary};
use crate::numbers::{Summary, written};
use crate::page::people;
use crate::rows::Section;

const BAR_HEIGHT: f64 = 9.0;
const ROW_HEIGHT: f64 = 28.0;
/// For the figures on the right, in two columns.
const FIGURES_WIDTH: f64 = 76.0;
const COLUMN_WIDTH: f64 = 34.0;

/// Draws from `top` on and says where it ends.
pub(super) fn draw(canvas: &mut Canvas, section: &Section, top: f64) -> f64 {
    canvas.text(PANELS[0], top + 20.0, "heading", "Throughput, as a share of PostgreSQL alone");
    let legend = PANELS[1] + 60.0;
    for (x, class, name) in
        [(legend, "few", "64 connections"), (legend + 120.0, "many", "1,000 connections")]
    {
        canvas.bar(x, top + 10.0, 12.0, 10.0, class);
        canvas.text(x + 17.0, top + 19.0, "muted", name);
    }
    canvas.line((legend + 260.0, top + 15.0), (legend + 280.0, top + 15.0), "range");
    canvas.text(legend + 285.0, top + 19.0, "muted", "all repeats");
    let mut bottom = top + 32.0;
    let most = longest(section);
    for keys in ["plain", "keys"] {
        let ends = [("hot", PANELS[0]), ("cold", PANELS[1])].map(|(users, left)| {
            let panel = Panel { section, users, keys, left, top: bottom, most };
            panel.draw(canvas)
        });
        bottom = ends[0].max(ends[1]) + 8.0;
    }
    bottom
}

/// To where the scale goes: all panels have the same, from 0 on.
fn longest(section: &Section) -> f64 {
    let ratios = section.series.iter().filter(|series| series.kind == "throughput");
    let most = ratios.filter_map(|series| ratio(section, series)).map(|ratio| ratio.most);
    (most.fold(1.05, f64::max) * 20.0).ceil() / 20.0
}

/// One kind of users, with or without keys.
struct Panel<'a> {
    section: &'a Section,
    users: &'a str,
    keys: &'a str,
    left: f64,
    top: f64,
    most: f64,
}

impl Panel<'_> {
    fn draw(&self, canvas: &mut Canvas) -> f64 {
        let (case, right) = (format!("{} {}", self.users, self.keys), self.left + PANEL_WIDTH);
        canvas.text(self.left, self.top + 14.0, "panel", &people(self.users, self.keys));
        let roof = self.section.get("roof", &case).and_then(summary);
        if let Some(roof) = roof {
            let roof = format!("roof {} changes/s", written(roof.median));
            canvas.text(right, self.top + 14.0, "muted end", &roof);
        }
        let first = self.top + 40.0;
        let bottom = first + 4.0 * ROW_HEIGHT;
        for step in 0..=4 {
            let share = f64::from(step) / 4.0;
            let class = if step == 4 { "roof" } else { "grid" };
            canvas.line((self.x(share), first - 4.0), (self.x(share), bottom - 2.0), class);
            let class = if step == 4 { "roof-name" } else { "middle" };
            canvas.text(self.x(share), first - 8.0, class, &written(share));
        }
        let rows = [("1", "direct"), ("1", "door"), ("5", "direct"), ("5", "door")];
        for (number, (replicas, path)) in (0_u8..).zip(rows) {
            let y = first + f64::from(number) * ROW_HEIGHT;
            canvas.text(self.left, y + 14.0, "", &place(replicas, path));
            let measured = [("64", "few"), ("1000", "many")].map(|(connections, class)| {
                let case = format!("{case} {replicas} {path} {connections}");
                let series = self.section.get("throughput", &case)?;
                Some((ratio(self.section, series)?, class))
            });
            for (y, (found, class)) in
                [y, y + BAR_HEIGHT + 1.0].into_iter().zip(measured.iter().flatten())
            {
                self.draw_bar(canvas, y, found, class);
            }
            for (found, column) in measured.iter().zip([right - COLUMN_WIDTH, right]) {
                let figure =
                    found.map_or("–".to_owned(), |(found, _)| format!("{:.2}", found.median));
                canvas.text(column, y + 14.0, "figure", &figure);
            }
        }
        bottom
    }

    fn draw_bar(&self, canvas: &mut Canvas, y: f64, found: &Summary, class: &str) {
        canvas.bar(self.x(0.0), y, self.x(found.median) - self.x(0.0), BAR_HEIGHT, class);
        let middle = y + BAR_HEIGHT / 2.0;
        canvas.line((self.x(found.least), middle), (self.x(found.most), middle), "range");
    }

    fn x(&self, share: f64) -> f64 {
        let width = PANEL_WIDTH - NAMES_WIDTH - FIGURES_WIDTH;
        self.left + NAMES_WIDTH + share / self.most * width
    }
}
