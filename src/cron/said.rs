//! What a run says: its last lines, with those that the database does not have yet.

use std::collections::VecDeque;
use std::time::Instant;

/// The lines of one run that are kept, which are the newest ones.
#[derive(Debug, Default)]
pub(super) struct Said {
    lines: VecDeque<Line>,
    /// The bytes of these lines together.
    bytes: usize,
    /// The number of the last line that was said.
    last: i32,
    /// The number of the last line that the database has, or was given up.
    told: i32,
}

/// One line of the log of a run.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// 1, 2, 3 … within its run.
    pub(super) number: i32,
    pub(super) at: Instant,
    pub(super) text: String,
}

const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 64 << 10;
const LINE_CHARS_MAX: usize = 1_000;

impl Said {
    /// Adds a line, and drops the oldest ones if there are too many. A control character becomes a
    /// space, so that the line stays one line, and PostgreSQL's `text` can hold it.
    pub(super) fn add(&mut self, line: &str) {
        let plain = |char: char| if char.is_control() { ' ' } else { char };
        let text: String = line.chars().take(LINE_CHARS_MAX).map(plain).collect();
        self.last = self.last.saturating_add(1);
        self.bytes += text.len();
        self.lines.push_back(Line { number: self.last, at: Instant::now(), text });
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            self.bytes -= self.lines.pop_front().map_or(0, |dropped| dropped.text.len());
        }
    }

    /// The number of the oldest line that is kept; 1 before the first line.
    pub(super) fn first(&self) -> i32 {
        self.lines.front().map_or(1, |line| line.number)
    }

    /// Whether there are lines that the database does not have.
    pub(super) fn has_news(&self) -> bool {
        self.told < self.last
    }

    /// The oldest lines that the database does not have: one, and more as long as all have at most
    /// so many bytes.
    pub(super) fn news(&self, bytes_max: usize) -> Vec<Line> {
        let mut bytes = 0;
        let new = self.lines.iter().filter(|line| line.number > self.told);
        let fits = |line: &&Line| {
            let is_first = bytes == 0;
            bytes += line.text.len() + 1;
            is_first || bytes <= bytes_max
        };
        new.take_while(fits).cloned().collect()
    }

    /// Notes that the database has the lines up to this number.
    pub(super) fn told(&mut self, number: i32) {
        self.told = self.told.max(number);
    }

    /// Makes of lines that the database has refused what every encoding can hold. Gives them up if
    /// they were that already.
    pub(super) fn refused(&mut self, number: i32) {
        let told = self.told;
        let mut is_plain = true;
        for line in self.lines.iter_mut().filter(|line| (told + 1..=number).contains(&line.number))
        {
            self.bytes -= line.text.len();
            is_plain &= line.text.is_ascii();
            line.text = ascii(&line.text);
            self.bytes += line.text.len();
        }
        if is_plain {
            self.told(number);
        }
    }
}

/// Replaces what some database encoding cannot hold by question marks.
pub(super) fn ascii(text: &str) -> String {
    text.chars().map(|char| if char.is_ascii() { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(said: &Said) -> Vec<String> {
        said.news(usize::MAX).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_line_is_one_line_and_is_cut_between_two_characters() {
        let mut said = Said::default();
        said.add("a\r\nb\tc\0\u{1b}[31m\u{7f}");
        said.add(&"ä".repeat(1_001));
        assert_eq!(texts(&said), ["a  b c  [31m ".to_owned(), "ä".repeat(1_000)]);
    }

    #[test]
    fn the_oldest_lines_are_dropped_by_their_number_or_by_their_bytes() {
        let mut said = Said::default();
        (1..=1_500).for_each(|number| said.add(&number.to_string()));
        assert_eq!((said.first(), texts(&said).len()), (501, LINES_MAX));
        let mut said = Said::default();
        (1..=100).for_each(|_| said.add(&"x".repeat(1_000)));
        assert_eq!((said.first(), texts(&said).len()), (36, 65));
    }

    #[test]
    fn what_was_told_is_not_told_again_and_a_message_is_not_too_long() {
        let mut said = Said::default();
        assert!(!said.has_news());
        ["one", "two", "three"].iter().for_each(|line| said.add(line));
        let numbers = |said: &Said, bytes| -> Vec<i32> {
            said.news(bytes).iter().map(|line| line.number).collect()
        };
        assert_eq!(numbers(&said, 0), [1]);
        assert_eq!(numbers(&said, 8), [1, 2]);
        said.told(2);
        assert_eq!(numbers(&said, 1_000), [3]);
        assert_eq!(said.first(), 1, "they are kept all the same");
        said.told(3);
        assert!(!said.has_news());
    }

    #[test]
    fn what_the_database_refuses_becomes_plain_and_then_is_given_up() {
        let mut said = Said::default();
        ["plain", "größer"].iter().for_each(|line| said.add(line));
        said.refused(2);
        assert_eq!(texts(&said), ["plain", "gr??er"]);
        said.refused(2);
        assert!(!said.has_news());
    }
}
