//! What the words behind `balanced jobs` ask for. Pure.

use balanced::cron::Name;
use balanced::timestamp;

use super::usage::{USAGES, help, names};

/// What is asked for, validated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    // Text for standard output, and nothing else.
    Help(String),
    List { json: bool },
    Show { name: String, json: bool },
    Run { name: String },
    // Without a run: the one that is open.
    Stop { name: String, run: Option<i64> },
    Pause { reason: String, until: Option<String> },
    Resume,
    // To pause or resume one job.
    Enable { name: String, enabled: bool },
    Apply { file: String, dry_run: bool, prune: bool },
}

/// The reason that is recorded if none is given.
const NO_REASON: &str = "paused on the command line";

/// Reads the words.
///
/// # Errors
/// One line that says what is right.
pub(super) fn read(words: &[&str]) -> Result<Order, String> {
    let asks_for_help = |word: &&str| ["--help", "-h", "help"].contains(word);
    let Some((command, words)) = words.split_first().filter(|(first, _)| !asks_for_help(first))
    else {
        return match words.is_empty() {
            true => Err(format!("give one of the commands {}", names())),
            false => Ok(Order::Help(help())),
        };
    };
    let Some(usage) = USAGES.iter().find(|usage| usage.name == *command) else {
        return Err(format!("there is no command `{command}`, there are {}", names()));
    };
    if words.iter().any(|word| ["--help", "-h"].contains(word)) {
        return Ok(Order::Help(usage.help()));
    }
    let words = Words::sort(words).and_then(|words| words.check(command));
    let order = words.and_then(|mut words| words.order(command));
    order.map_err(|why| format!("{why}: {}", usage.line()))
}

/// The words of one command, by what they look like.
#[derive(Default)]
struct Words<'a> {
    /// Those that are no option, in their order.
    plain: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn sort(words: &[&'a str]) -> Result<Words<'a>, String> {
        let mut sorted = Words::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            let value = match option {
                "--reason" | "--until" | "-f" | "--file" => value.or_else(|| words.next()),
                "--all" | "--json" | "--dry-run" | "--prune" if value.is_none() => Some(""),
                "--token" => return Err("a token is given as BALANCED_TOKEN only".to_owned()),
                _ if word.starts_with('-') && word != "-" => {
                    return Err(format!("there is no option `{word}`"));
                }
                _ => {
                    sorted.plain.push(word);
                    continue;
                }
            };
            let option = if option == "--file" { "-f" } else { option };
            let value = value.ok_or_else(|| format!("`{option}` needs a value"))?;
            match sorted.take(option) {
                Some(_) => return Err(format!("`{option}` is given twice")),
                None => sorted.options.push((option, value)),
            }
        }
        Ok(sorted)
    }

    fn take(&mut self, option: &str) -> Option<&'a str> {
        let at = self.options.iter().position(|(known, _)| *known == option)?;
        Some(self.options.swap_remove(at).1)
    }

    /// Refuses options of other commands, and words that are too many.
    fn check(self, command: &str) -> Result<Words<'a>, String> {
        let is_for_all = self.options.iter().any(|(option, _)| *option == "--all");
        let (most, options): (usize, &[&str]) = match command {
            "list" => (0, &["--json"]),
            "show" => (1, &["--json"]),
            "stop" => (2, &[]),
            "pause" if is_for_all => (0, &["--all", "--reason", "--until"]),
            "resume" if is_for_all => (0, &["--all"]),
            "apply" => (0, &["-f", "--dry-run", "--prune"]),
            _ => (1, &[]),
        };
        if let Some(word) = self.plain.get(most) {
            return Err(format!("`{word}` is one word too many"));
        }
        match self.options.iter().find(|(option, _)| !options.contains(option)) {
            Some((option, _)) => Err(format!("`{option}` does not belong here")),
            None => Ok(self),
        }
    }

    fn order(&mut self, command: &str) -> Result<Order, String> {
        let is_for_all = ["list", "apply"].contains(&command) || self.take("--all").is_some();
        let name = if is_for_all { String::new() } else { self.name()? };
        Ok(match command {
            "list" => Order::List { json: self.take("--json").is_some() },
            "show" => Order::Show { name, json: self.take("--json").is_some() },
            "run" => Order::Run { name },
            "stop" => Order::Stop { name, run: self.run()? },
            "pause" if is_for_all => {
                let reason = self.take("--reason").unwrap_or(NO_REASON).to_owned();
                Order::Pause { reason, until: self.until()? }
            }
            "resume" if is_for_all => Order::Resume,
            "pause" | "resume" => Order::Enable { name, enabled: command == "resume" },
            _ => Order::Apply {
                file: self.take("-f").ok_or("give a file by -f")?.to_owned(),
                dry_run: self.take("--dry-run").is_some(),
                prune: self.take("--prune").is_some(),
            },
        })
    }

    fn name(&self) -> Result<String, String> {
        let name = self.plain.first().ok_or("give the job's name")?;
        let rule = "a name is 1 to 63 small letters, digits and hyphens, no hyphen first";
        Name::parse(name).map(|name| name.as_str().to_owned()).map_err(|_| rule.to_owned())
    }

    fn run(&self) -> Result<Option<i64>, String> {
        let run = self.plain.get(1).map(|run| run.parse().ok().filter(|run| *run > 0));
        run.map(|run| run.ok_or("RUN is a run's id, a whole number".to_owned())).transpose()
    }

    fn until(&mut self) -> Result<Option<String>, String> {
        let rule = "INSTANT is like 2027-01-31T22:00:00Z or 2027-01-31T23:00:00+01:00";
        let until = self.take("--until").map(timestamp::parse);
        until.map(|at| at.map(|at| timestamp::text(&at)).ok_or(rule.to_owned())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(line: &str) -> Result<Order, String> {
        read(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn the_words_of_each_command_are_understood_in_any_order() {
        let name = || "a".to_owned();
        for (line, expected) in [
            ("list", Order::List { json: false }),
            ("list --json", Order::List { json: true }),
            ("show --json a", Order::Show { name: name(), json: true }),
            ("run a", Order::Run { name: name() }),
            ("stop a", Order::Stop { name: name(), run: None }),
            ("stop a 12", Order::Stop { name: name(), run: Some(12) }),
            ("pause --all", Order::Pause { reason: NO_REASON.to_owned(), until: None }),
            (
                "pause --until=2027-01-31T23:00:00+01:00 --reason deploy --all",
                Order::Pause {
                    reason: "deploy".to_owned(),
                    until: Some("2027-01-31T22:00:00.000000Z".to_owned()),
                },
            ),
            ("resume --all", Order::Resume),
            ("pause a", Order::Enable { name: name(), enabled: false }),
            ("resume a", Order::Enable { name: name(), enabled: true }),
            ("apply -f x", Order::Apply { file: "x".to_owned(), dry_run: false, prune: false }),
            (
                "apply --prune --file=- --dry-run",
                Order::Apply { file: "-".to_owned(), dry_run: true, prune: true },
            ),
        ] {
            assert_eq!(order(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_use_is_told_in_one_line_that_says_what_is_right() {
        for (line, why) in [
            ("", "give one of the commands list, show, run, stop, pause, resume, apply"),
            ("lists", "there is no command `lists`"),
            ("list a", "`a` is one word too many: balanced jobs list [--json]"),
            ("list --prune", "`--prune` does not belong here"),
            ("list --json=x", "there is no option `--json=x`"),
            ("list --json --json", "`--json` is given twice"),
            ("show", "give the job's name: balanced jobs show NAME [--json]"),
            ("run A", "a name is 1 to 63 small letters"),
            ("run a b", "`b` is one word too many"),
            ("run a --token secret", "a token is given as BALANCED_TOKEN only"),
            ("stop a b", "RUN is a run's id"),
            ("stop a 0", "RUN is a run's id"),
            ("pause a --reason x", "`--reason` does not belong here"),
            ("pause", "give the job's name: balanced jobs pause NAME | --all"),
            ("resume", "give the job's name: balanced jobs resume NAME | --all"),
            ("pause a --all", "`a` is one word too many"),
            ("run --all", "`--all` does not belong here"),
            ("pause --reason x", "`--reason` does not belong here"),
            ("pause --all --until tomorrow", "INSTANT is like"),
            ("pause --reason", "`--reason` needs a value"),
            ("apply", "give a file by -f: balanced jobs apply -f FILE [--dry-run] [--prune]"),
            ("apply x", "`x` is one word too many"),
        ] {
            let told = order(line).expect_err(line);
            assert!(told.starts_with(why) && !told.contains('\n'), "{line}: {told}");
        }
    }
}
