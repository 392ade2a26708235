//! Which figure is held against which: ratios travel to other machines, absolute figures do not.

use crate::numbers::Summary;
use crate::rows::{Section, Series};

/// What a series amounts to in all repeats.
pub(crate) fn summary(series: &Series) -> Option<Summary> {
    let values: Vec<f64> = series.repeats().into_iter().map(|(_, value)| value).collect();
    Summary::of(&values)
}

/// A series divided by what it is held against, repeat by repeat: neighbours in time.
pub(crate) fn ratio(section: &Section, series: &Series) -> Option<Summary> {
    let (kind, case) = base(&section.name, series)?;
    let base = section.get(kind, &case)?.repeats();
    let of = |number| base.iter().find(|(repeat, _)| *repeat == number);
    let ratios: Vec<f64> = series
        .repeats()
        .into_iter()
        .filter_map(|(number, value)| of(number).map(|(_, base)| value / base))
        .filter(|ratio| ratio.is_finite())
        .collect();
    Summary::of(&ratios)
}

/// The kind and case that a series is held against.
fn base<'a>(section: &str, series: &'a Series) -> Option<(&'a str, String)> {
    let mut words = series.case.split(' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (section, series.kind.as_str()) {
        ("balance", "throughput") => Some(("roof", format!("{first} {second}"))),
        ("balance", "roof") if second != "bare" => Some(("roof", format!("{first} bare"))),
        ("burst", "burst") => Some(("roof", "5000 withdrawals".to_owned())),
        ("hotrow", "pgbench" | "service") if series.case == "after 1,000,000" => {
            Some((series.kind.as_str(), "after 10,000".to_owned()))
        }
        ("cron", _) => {
            let (wave, figure) = series.case.split_once(" runs in the history")?;
            let (wave, _) = wave.rsplit_once(", ")?;
            Some((series.kind.as_str(), format!("{wave}, no history{figure}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repeat_is_held_against_its_own_roof() {
        let text = "roof\thot plain\t1/s\t1\t100\nroof\thot plain\t1/s\t1\t300\n\
                    roof\thot plain\t1/s\t2\t400\nthroughput\thot plain 1 door 64\t1/s\t1\t100\n\
                    throughput\thot plain 1 door 64\t1/s\t2\t300\nroof\thot bare\t1/s\t1\t400\n";
        let section = Section::parse("balance", text).unwrap();
        let of = |kind, case| ratio(&section, section.get(kind, case).unwrap());
        let door = of("throughput", "hot plain 1 door 64");
        assert_eq!(door, Some(Summary { median: 0.625, least: 0.5, most: 0.75 }));
        assert_eq!(of("roof", "hot plain").map(|ratio| ratio.median), Some(0.5));
        assert_eq!(of("roof", "hot bare"), None);
    }

    #[test]
    fn a_long_history_is_held_against_none() {
        let text = "cron\t20 jobs, handicap 0, no history: claims\t1/s\t1\t10\n\
                    cron\t20 jobs, handicap 0, 1000 runs in the history: claims\t1/s\t1\t9\n";
        let section = Section::parse("cron", text).unwrap();
        assert_eq!(ratio(&section, &section.series[1]).map(|ratio| ratio.median), Some(0.9));
        assert_eq!(ratio(&section, &section.series[0]), None);
    }

    #[test]
    fn an_old_row_is_held_against_a_young_one() {
        let text = "service\tafter 10,000\t1/s\t1\t10\nservice\tafter 1,000,000\t1/s\t1\t9\n";
        let section = Section::parse("hotrow", text).unwrap();
        assert_eq!(ratio(&section, &section.series[1]).map(|ratio| ratio.median), Some(0.9));
        assert_eq!(ratio(&section, &section.series[0]), None);
    }
}
