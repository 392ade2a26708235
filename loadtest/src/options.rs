//! The command line: words → a command with every value checked. Wrong usage is a sentence.

use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::client::BaseUrl;
use crate::{bench, burst, check, cron};

const HELP: &str = "\
Proves and measures a cluster of `balanced` replicas from outside.

Usage: loadtest <command> [options]

Commands:
  burst   one withdrawal on each of N connections at the same moment, and a
          verdict
  bench   sustained load, in a closed loop or at a fixed rate: rate and
          latencies
  cron    the jobs watched through every target, and a verdict
  check   whether the answers that burst or bench recorded are possible
  help    this page; `loadtest help <command>` lists a command's options

Options:
  -h, --help      the same
  -V, --version   the version

Exit codes: 0 all was as it had to be; 1 something was not, each thing in a
sentence; 2 wrong usage.
";

/// What the words ask for.
pub(crate) enum Command {
    /// Print this and end well.
    Say(String),
    /// `loadtest burst`.
    Burst(burst::Options),
    /// `loadtest bench`.
    Bench(bench::Options),
    /// `loadtest cron`.
    Cron(cron::Options),
    /// `loadtest check`.
    Check(check::Options),
}

impl Command {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// One sentence on the first word that makes no sense.
    pub(crate) fn parse(words: Vec<String>) -> Result<Command, String> {
        let mut words = VecDeque::from(words);
        let Some(first) = words.pop_front() else {
            return Err("a command is missing: burst, bench, cron or check".to_owned());
        };
        let mut arguments = Arguments { words, option: String::new(), attached: None };
        let help = help_of(&first).filter(|_| arguments.ask_for_help());
        if let Some(help) = help {
            return Ok(Command::Say(help.to_owned()));
        }
        match first.as_str() {
            "-h" | "--help" | "help" => {
                let help = arguments.words.front().and_then(|command| help_of(command));
                Ok(Command::Say(help.unwrap_or(HELP).to_owned()))
            }
            "-V" | "--version" => {
                Ok(Command::Say(concat!("loadtest ", env!("CARGO_PKG_VERSION")).to_owned()))
            }
            "burst" => burst::Options::parse(&mut arguments).map(Command::Burst),
            "bench" => bench::Options::parse(&mut arguments).map(Command::Bench),
            "cron" => cron::Options::parse(&mut arguments).map(Command::Cron),
            "check" => check::Options::parse(&mut arguments).map(Command::Check),
            other => Err(format!("`{other}` is not a command: burst, bench, cron or check")),
        }
    }
}

fn help_of(command: &str) -> Option<&'static str> {
    match command {
        "burst" => Some(burst::HELP),
        "bench" => Some(bench::HELP),
        "cron" => Some(cron::HELP),
        "check" => Some(check::HELP),
        _ => None,
    }
}

/// The words behind the command, read from the left: `--name value` or `--name=value`.
pub(crate) struct Arguments {
    words: VecDeque<String>,
    option: String,
    attached: Option<String>,
}

impl Arguments {
    /// The next option's name.
    ///
    /// # Errors
    /// A word that is no option, or a value attached to an option that takes none.
    pub(crate) fn next(&mut self) -> Result<Option<String>, String> {
        if let Some(value) = self.attached.take() {
            return Err(format!("{} takes no value, but got `{value}`", self.option));
        }
        let Some(word) = self.words.pop_front() else {
            return Ok(None);
        };
        if !word.starts_with('-') {
            return Err(format!("`{word}` is not an option"));
        }
        self.option = match word.split_once('=') {
            Some((name, value)) => {
                self.attached = Some(value.to_owned());
                name.to_owned()
            }
            None => word,
        };
        Ok(Some(self.option.clone()))
    }

    /// All words, for a command without options.
    ///
    /// # Errors
    /// One of them is an option.
    pub(crate) fn words(&mut self) -> Result<Vec<String>, String> {
        match self.words.iter().find(|word| word.starts_with('-')) {
            Some(word) => Err(format!("{word} is not an option of this command")),
            None => Ok(std::mem::take(&mut self.words).into()),
        }
    }

    /// The value of the option just read.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn text(&mut self) -> Result<String, String> {
        let value = self.attached.take().or_else(|| self.words.pop_front());
        value.ok_or_else(|| format!("{} needs a value", self.option))
    }

    /// The value of the option just read, as a number within `range`.
    ///
    /// # Errors
    /// It is missing, no number, or out of range.
    pub(crate) fn number<T>(&mut self, range: RangeInclusive<T>) -> Result<T, String>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = self.text()?;
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("{} must be a whole number from {least} to {most}, not `{text}`", self.option)
        })
    }

    /// The value of `--targets`: base URLs with commas between them.
    ///
    /// # Errors
    /// One of them is no base URL.
    pub(crate) fn targets(&mut self) -> Result<Vec<BaseUrl>, String> {
        self.text()?.split(',').map(|url| BaseUrl::parse(url.trim())).collect()
    }

    /// The value of `--token`: what a header can carry.
    ///
    /// # Errors
    /// It is empty or holds something else than visible ASCII.
    pub(crate) fn token(&mut self) -> Result<Option<String>, String> {
        let token = self.text()?;
        match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(token)),
            false => Err("--token must be visible ASCII characters without blanks".to_owned()),
        }
    }

    /// The sentence for an option nobody knows.
    pub(crate) fn unknown(&self) -> String {
        format!("{} is not an option of this command", self.option)
    }

    /// `help` alone may also be an option's value.
    fn ask_for_help(&self) -> bool {
        let first = self.words.front().is_some_and(|word| word == "help");
        first || self.words.iter().any(|word| word == "-h" || word == "--help")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    fn burst(line: &str) -> burst::Options {
        match parse(line) {
            Ok(Command::Burst(options)) => options,
            Ok(_) => panic!("{line}: another command"),
            Err(sentence) => panic!("{line}: {sentence}"),
        }
    }

    #[test]
    fn both_forms_of_an_option_are_read() {
        let options = burst("burst -n 20 --amount=3 --reset 7 --json");
        assert_eq!((options.connections, options.amount, options.reset), (20, 3, 7));
        assert!(options.json);
        assert_eq!(burst("burst --connections=21").connections, 21);
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let options = burst("burst");
        let (user, timeout) = (options.user_id, options.timeout.as_secs());
        assert_eq!((options.connections, options.amount, options.reset), (10_000, 2, 10_000));
        assert_eq!((user, timeout, options.targets.len()), (1, 120, 1));
    }

    #[test]
    fn wrong_usage_is_a_sentence() {
        for (line, sentence) in [
            ("", "a command is missing: burst, bench, cron or check"),
            ("fire", "`fire` is not a command: burst, bench, cron or check"),
            ("burst now", "`now` is not an option"),
            ("burst --bust", "--bust is not an option of this command"),
            ("burst --json=yes", "--json takes no value, but got `yes`"),
            ("burst -n", "-n needs a value"),
            ("burst -n 0", "-n must be a whole number from 1 to 1000000, not `0`"),
            ("burst --amount 2.5", "--amount must be a whole number from 1 to"),
            ("bench --amount 0", "--amount must not be 0"),
            ("burst --targets https://a", "https://a: only http:// is spoken here"),
            ("bench --rate 0", "--rate must be a whole number from 1 to 100000, not `0`"),
            ("burst --rate 5", "--rate is not an option of this command"),
            ("cron --poll 1", "--poll must be a whole number from 10 to 60000, not `1`"),
        ] {
            let given = parse(line).err().unwrap_or_default();
            assert!(given.starts_with(sentence), "{line}: {given}");
        }
    }

    #[test]
    fn help_wins_over_everything_else_on_the_line() {
        for (line, usage) in [
            ("--help", "loadtest <command> [options]"),
            ("help", "loadtest <command> [options]"),
            ("burst --help", "loadtest burst [options]"),
            ("burst help", "loadtest burst [options]"),
            ("help burst", "loadtest burst [options]"),
            ("burst -n 0 --help", "loadtest burst [options]"),
            ("bench -h", "loadtest bench [options]"),
            ("help bench", "loadtest bench [options]"),
            ("cron --help", "loadtest cron [options]"),
            ("cron help", "loadtest cron [options]"),
        ] {
            let Ok(Command::Say(text)) = parse(line) else { panic!("{line}: no help") };
            assert!(text.contains(&format!("\nUsage: {usage}\n")), "{line}: {text}");
        }
        assert_eq!(burst("burst --token help").token.as_deref(), Some("help"));
    }
}
