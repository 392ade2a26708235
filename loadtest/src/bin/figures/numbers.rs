//! What many values have in common, and how a number is written.

/// Wider than this, figures are too wide to trust.
const SPREAD_TRUSTED_MAX: f64 = 0.15;

/// The values of all repeats, in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Summary {
    /// Nothing of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = &sorted[(sorted.len() - 1) / 2..=sorted.len() / 2];
        Some(Summary { median: mean(middle), least, most })
    }

    /// The range as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        match self.most - self.least {
            0.0 => 0.0,
            range => range / self.median.abs(),
        }
    }

    /// Whether the repeats agree too little.
    pub(crate) fn is_too_wide(&self) -> bool {
        self.spread() > SPREAD_TRUSTED_MAX
    }
}

/// Of at least one value.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// With as many digits as matter, and a comma at each thousand.
pub(crate) fn written(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 999.5 => grouped(value),
        _ if size >= 99.5 => format!("{value:.0}"),
        _ if size >= 9.95 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{value:.2}").trim_end_matches(".00").to_owned(),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_one_outlier_widens_only_the_spread() {
        let odd = Summary::of(&[3.0, 1.0, 2.0, 10.0, 2.0]).unwrap();
        assert_eq!(odd, Summary { median: 2.0, least: 1.0, most: 10.0 });
        assert_eq!(odd.spread(), 4.5);
        assert!(odd.is_too_wide());
        let even = Summary::of(&[1.0, 1.1]).unwrap();
        assert_eq!(even.median, 1.05);
        assert!(!even.is_too_wide());
        assert_eq!(Summary::of(&[0.0, 0.0]).unwrap().spread(), 0.0);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in [
            (0.9512, "0.95"),
            (1.0, "1"),
            (9.96, "10"),
            (99.4, "99.4"),
            (999.4, "999"),
            (1_234_567.8, "1,234,568"),
            (-1_000.0, "-1,000"),
            (0.0, "0"),
        ] {
            assert_eq!(written(value), text);
        }
    }
}
