//! Instants as the service writes them, so that they can be compared and subtracted.

use serde::Deserialize;

/// Every instant looks like this, a digit for each 0.
const FORM: &[u8] = b"0000-00-00T00:00:00.000000Z";
const DAYS_BEFORE_1970: i64 = 719_468;

/// Microseconds since 1970 by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(i64);

impl Moment {
    /// Later than any that can be written.
    pub(super) const NEVER: Moment = Moment(i64::MAX);

    /// How long after `earlier` this is; negative where it is before.
    pub(super) fn seconds_since(self, earlier: Moment) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// The time of day, UTC: `07:00:00Z`, as logs have it.
    pub(super) fn time_of_day(self) -> String {
        let seconds = self.0.div_euclid(1_000_000).rem_euclid(86_400);
        format!("{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }

    fn parse(text: &[u8]) -> Option<Moment> {
        let fits = |(byte, form): (&u8, &u8)| match form {
            b'0' => byte.is_ascii_digit(),
            sign => byte == sign,
        };
        if text.len() != FORM.len() || !text.iter().zip(FORM).all(fits) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
        };
        // Years that begin in March end with the leap day.
        let (year, month) = match (number(0, 4), number(5, 7)) {
            (year, month) if month > 2 => (year, month - 3),
            (year, month) => (year - 1, month + 9),
        };
        let days_of_years = 365 * year + year / 4 - year / 100 + year / 400;
        let days = days_of_years + (153 * month + 2) / 5 + number(8, 10) - 1 - DAYS_BEFORE_1970;
        let seconds = ((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60 + number(17, 19);
        Some(Moment(seconds * 1_000_000 + number(20, 26)))
    }
}

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Moment, &'static str> {
        Moment::parse(text.as_bytes())
            .ok_or("an instant is not of the form 2026-11-21T07:00:00.123456Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_microseconds_since_1970() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("2000-02-29T12:00:00.000001Z", 951_825_600_000_001),
            ("2000-03-01T00:00:00.000000Z", 951_868_800_000_000),
            ("2026-11-21T07:00:00.123456Z", 1_795_244_400_123_456),
        ] {
            let moment = Moment::parse(text.as_bytes()).expect("an instant");
            assert_eq!(moment, Moment(micros), "{text}");
            assert_eq!(moment.time_of_day(), format!("{}Z", &text[11..19]));
        }
    }

    #[test]
    fn another_form_is_refused() {
        for text in [
            "",
            "2026-11-21T07:00:00Z",
            "2026-11-21T07:00:00.123Z",
            "2026-11-21T07:00:00.123456+00:00",
            "2026-11-21 07:00:00.123456Z",
            "2026-11-2xT07:00:00.123456Z",
        ] {
            assert_eq!(Moment::parse(text.as_bytes()), None, "{text}");
        }
    }
}
