//! Which of the two forms of a list a client wants. Pure.

use super::call::Call;
use super::input::Query;
use super::problem::Problem;

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `text/csv`.
    Csv,
}

impl Media {
    /// The parameter `format` decides where it is given, since people cannot easily set a header in
    /// a browser; else `Accept`.
    pub(super) fn take(query: &mut Query<'_>, call: &Call) -> Result<Media, Problem> {
        match query.take_text("format")?.as_deref() {
            None => Ok(Media::accepted(call.accept.as_deref().unwrap_or_default())),
            Some("json") => Ok(Media::Json),
            Some("csv") => Ok(Media::Csv),
            Some(_) => Err(Problem::must("format", "be json or csv")),
        }
    }

    /// CSV if the client likes it better than JSON, or likes both alike and names CSV more exactly.
    fn accepted(accept: &str) -> Media {
        match weight(accept, "text", "csv") > weight(accept, "application", "json") {
            true => Media::Csv,
            false => Media::Json,
        }
    }
}

/// The quality that a client gives a media type, in thousandths, and how exactly it names it. The
/// most exact range that fits decides (RFC 9110, 12.5.1); zeros if none fits.
fn weight(accept: &str, of_type: &str, subtype: &str) -> (u16, u8) {
    let fitting = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (of, sub) = parts.next()?.split_once('/')?;
        let exactness = match (of, sub) {
            ("*", "*") => 1,
            (of, "*") if of.eq_ignore_ascii_case(of_type) => 2,
            (of, sub) if of.eq_ignore_ascii_case(of_type) && sub.eq_ignore_ascii_case(subtype) => 3,
            _ => return None,
        };
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("q").then(|| value.trim_start())
        });
        Some((exactness, quality.map_or(1_000, thousandths)))
    });
    let (exactness, quality) = fitting.max().unwrap_or((0, 0));
    (quality, if quality == 0 { 0 } else { exactness })
}

/// A quality that cannot be read counts as 0.
fn thousandths(quality: &str) -> u16 {
    let quality = quality.parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality));
    quality.map_or(0, |quality| (quality * 1_000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_those_who_like_it_better_and_json_for_everybody_else() {
        for csv in [
            "text/csv",
            "TEXT/CSV ; header=present",
            "text/*",
            "text/csv, */*",
            "text/csv, application/json;q=0.9",
            "application/json;q=0.8, text/csv;q=0.81",
            "application/json ; Q=0.1,text/*; q = 0.2",
            "application/json;q=0, */*",
            "application/json;q=x, text/csv;q=0.001",
        ] {
            assert_eq!(Media::accepted(csv), Media::Csv, "{csv}");
        }
        for json in [
            "",
            "*/*",
            "application/json",
            "text/csv, application/json",
            "text/csv;q=0.9, application/json",
            "text/csv;q=0.9, */*",
            "text/csv;q=0, text/*, */*;q=0.1",
            "text/csv;q=0",
            "text/csv;q=2",
            "text/csv;q=nan",
            "text/csvx",
            "csv",
            "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
        ] {
            assert_eq!(Media::accepted(json), Media::Json, "{json}");
        }
    }
}
