//! Figures with their spread are those of bench/*.tsv, and say of an aim what they allow.

use std::collections::BTreeMap;

use super::{all, read, regex};

/// A series' values by the number of their repeat.
type Series = BTreeMap<u32, f64>;

/// Median, least and most.
type Summary = [f64; 3];

/// Each series of a file by its kind and case; more values of one repeat count as their mean.
fn series(file: &str) -> BTreeMap<(String, String), Series> {
    let text = read(&format!("bench/{file}.tsv"));
    let mut values: BTreeMap<_, BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [kind, case, _, repeat, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{file}: {line}")
        };
        let repeats = values.entry((kind.to_owned(), case.to_owned())).or_default();
        repeats.entry(repeat.parse().unwrap()).or_default().push(value.parse().unwrap());
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let means = |repeats: BTreeMap<u32, Vec<f64>>| {
        repeats.into_iter().map(|(repeat, values)| (repeat, mean(values))).collect()
    };
    values.into_iter().map(|(name, repeats)| (name, means(repeats))).collect()
}

/// What a series is held against, as a pair of kind and case.
fn base(kind: &str, case: &str) -> Option<(String, String)> {
    let of = |kind: &str, case: String| Some((kind.to_owned(), case));
    match kind {
        "throughput" => of("roof", case.split(' ').take(2).collect::<Vec<_>>().join(" ")),
        "burst" => of("roof", "5000 withdrawals".to_owned()),
        "pgbench" | "service" => of(kind, "after 10,000".to_owned()),
        "cron" => of(kind, case.replace("1000000 runs in the history", "no history")),
        _ => None,
    }
}

fn summary(values: impl Iterator<Item = f64>) -> Summary {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    [middle, values[0], values[values.len() - 1]]
}

fn summaries() -> Vec<Summary> {
    let mut found = Vec::new();
    for file in ["balance", "burst", "latency", "memory", "hotrow", "cron", "growth"] {
        let series = series(file);
        for ((kind, case), values) in series.iter().filter(|(_, values)| values.len() > 1) {
            found.push(summary(values.values().copied()));
            let Some(base) = base(kind, case).and_then(|name| series.get(&name)) else { continue };
            found.push(summary(values.iter().map(|(repeat, value)| value / base[repeat])));
        }
    }
    found
}

/// A median with its least and most in brackets, wherever these stand.
fn printed(text: &str) -> Vec<[&str; 3]> {
    let pattern = r"([\d,]+(?:\.\d+)?)[a-z.A-Z\s]{0,30}\(([\d,.]+) – ([\d,.]+)\)";
    let found = regex(pattern);
    let found = found.captures_iter(text);
    found.map(|it| [1, 2, 3].map(|group| it.get(group).unwrap().as_str())).collect()
}

fn number(text: &str) -> f64 {
    text.replace(',', "").parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether the figure is that value, rounded as it is.
fn is(figure: &str, value: f64) -> bool {
    let decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    (number(figure) - value).abs() <= 0.501 * 0.1_f64.powi(decimals.try_into().unwrap())
}

#[test]
fn every_figure_with_a_spread_was_measured() {
    let measured = summaries();
    for (page, least) in [("README.md", 7), ("docs/performance.md", 60), ("docs/scaling.md", 20)] {
        let text = read(page);
        let figures = printed(&text);
        assert_eq!(figures.len(), all(r"(\d – \d)", &text).len(), "{page}: {figures:?}");
        assert!(figures.len() >= least, "{page}");
        for figure in figures {
            let is_one = |known: &Summary| figure.iter().zip(known).all(|(it, of)| is(it, *of));
            assert!(measured.iter().any(is_one), "{page} has {figure:?}");
        }
    }
}

#[test]
fn an_aim_is_reached_or_missed_where_all_repeats_say_so_and_else_undecided() {
    let page = read("docs/performance.md");
    let aim = regex(r"at (least|most) ([\d.]+)(?: MB)?: \**(\w+)");
    let mut judged = 0;
    for line in page.lines() {
        let (Some(aim), Some(figure)) = (aim.captures(line), printed(line).pop()) else { continue };
        let [_, least, most] = figure.map(number);
        let bar = number(&aim[2]);
        let (all_are, none_is) = match &aim[1] {
            "least" => (least >= bar, most < bar),
            _ => (most <= bar, least > bar),
        };
        let verdict = match (all_are, none_is) {
            (true, _) => "reached",
            (_, true) => "missed",
            _ => "undecided",
        };
        assert_eq!(&aim[3], verdict, "{line}");
        judged += 1;
    }
    assert_eq!(judged, 11);
}
