//! The picture: throughput as a share of the roof, below it latencies; an SVG without scripts, on a
//! background of its own, legible on light and dark pages.

mod canvas;
mod latency;
mod throughput;

use crate::rows::Measured;
use canvas::Canvas;

/// Width of the picture, of a panel, and where the two panels of a line begin.
const WIDTH: f64 = 900.0;
const PANEL_WIDTH: f64 = 410.0;
const PANELS: [f64; 2] = [24.0, 466.0];
/// Of the names on the left, and of the figures on the right of a panel.
const NAMES_WIDTH: f64 = 112.0;

/// The whole picture: what was not measured is left out.
pub(crate) fn render(measured: &Measured) -> String {
    let mut canvas = Canvas::default();
    let mut bottom = 8.0;
    if let Some(section) = measured.section("balance") {
        bottom = throughput::draw(&mut canvas, section, bottom);
    }
    if let Some(section) = measured.section("latency") {
        bottom = latency::draw(&mut canvas, section, bottom);
    }
    let machine = ["processor", "cores", "PostgreSQL"].map(|name| {
        let found = measured.machine.iter().find(|(known, _)| known == name);
        found.map_or(String::new(), |(_, value)| match name {
            "cores" => format!("{value} cores"),
            "PostgreSQL" => format!("PostgreSQL {value} and the client on the same machine"),
            _ => value.clone(),
        })
    });
    let machine: Vec<_> = machine.into_iter().filter(|text| !text.is_empty()).collect();
    canvas.text(PANELS[0], bottom + 22.0, "muted", &machine.join(", "));
    canvas.finish(WIDTH, bottom + 36.0)
}

/// Such as `5 replicas, door`.
fn place(replicas: &str, path: &str) -> String {
    let plural = if replicas == "1" { "" } else { "s" };
    format!("{replicas} replica{plural}, {path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::sample;

    /// Fails where a tag is not closed, or closed by another's name.
    fn check_tags(svg: &str) -> Result<usize, String> {
        let (mut open, mut count) = (Vec::new(), 0);
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').ok_or("a tag has no end")?;
            if text.contains('>') || tag.matches('"').count() % 2 == 1 {
                return Err(format!("not well formed: <{piece}"));
            }
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (false, false) => open.push(name),
                (true, _) if open.pop() != Some(name) => return Err(format!("</{name}> is alone")),
                _ => {}
            }
            count += 1;
        }
        if open.is_empty() { Ok(count) } else { Err(format!("not closed: {open:?}")) }
    }

    #[test]
    fn the_picture_is_well_formed_and_shows_every_measurement() {
        let mut measured = sample();
        measured.machine.push(("processor".to_owned(), "A & B <C>".to_owned()));
        let svg = render(&measured);
        assert!(check_tags(&svg).unwrap() > 100, "{svg}");
        assert!(svg.contains("A &amp; B &lt;C&gt;"), "{svg}");
        assert_eq!(svg.matches(r#"class="few""#).count(), 16 + 1, "and the legend");
        assert_eq!(svg.matches(r#"class="many""#).count(), 16 + 1, "and the legend");
        assert_eq!(svg.matches(r#"class="p999""#).count(), 3 + 1, "and the legend");
        assert!(!svg.contains("script") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn the_check_of_tags_finds_faults() {
        for wrong in ["<a><b></a></b>", "<a>", "<a b=\"c></a>", "<a>x > y</a>", "</a>"] {
            assert!(check_tags(wrong).is_err(), "{wrong}");
        }
        assert_eq!(check_tags("<a><b/></a>"), Ok(3));
    }

    #[test]
    fn nothing_measured_is_still_a_picture() {
        let svg = render(&Measured { machine: Vec::new(), sections: Vec::new() });
        assert!(check_tags(&svg).is_ok(), "{svg}");
    }
}
