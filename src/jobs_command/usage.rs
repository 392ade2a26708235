//! The commands of `balanced jobs`, and the help about them.

/// A command: its words, and what `--help` says of it.
pub(super) struct Usage {
    pub(super) name: &'static str,
    words: &'static str,
    meaning: &'static str,
    more: &'static str,
}

const fn usage(
    name: &'static str,
    words: &'static str,
    meaning: &'static str,
    more: &'static str,
) -> Usage {
    Usage { name, words, meaning, more }
}

pub(super) const USAGES: [Usage; 7] = [
    usage(
        "list",
        "[--json]",
        "every job: its state, where it runs, since when, and when it is due next",
        "Long names are cut so that a line fits 80 characters. --json prints the whole document.",
    ),
    usage(
        "show",
        "NAME [--json]",
        "one job: its settings, its run and its last run",
        "What is not set is left out. --json prints the whole document.",
    ),
    usage(
        "run",
        "NAME",
        "make a job due now; the grid of its schedule stays",
        "Refused while it runs, and while it is paused.",
    ),
    usage(
        "stop",
        "NAME [RUN]",
        "stop the run of a job, wherever it is; the next slot is run",
        "RUN is a run's id. With it nothing but that run is stopped, even if another has begun.",
    ),
    usage(
        "pause",
        "NAME | --all [--reason TEXT] [--until INSTANT]",
        "pause one job, or all: what runs goes on, nothing else begins",
        "--reason and --until are for all jobs alone. INSTANT is like 2027-01-31T22:00:00Z.",
    ),
    usage(
        "resume",
        "NAME | --all",
        "end the pause of one job, or that of all",
        "A job that was paused by itself stays so when the pause of all ends.",
    ),
    usage(
        "apply",
        "-f FILE [--dry-run] [--prune]",
        "make the jobs as a file says, all or none",
        "The file is JSON: {\"jobs\": [{\"name\", \"function\", \"schedule\", ...}]}; - is the\n\
         standard input. What it does not say of a job gets its default, except that `enabled`\n\
         stays as it is. --prune deletes the jobs that the file lacks; if one of them runs,\n\
         nothing is changed. --dry-run says what would change, and ends with 1 if it would be\n\
         refused.",
    ),
];

const ENVIRONMENT: &str = "\
Environment:
  BALANCED_URL    a replica or the door [http://127.0.0.1:8080]; https:// works, too
  BALANCED_TOKEN  the token, where the service asks for one: with the scope read to
                  list and show, run or jobs for the others
  SSL_CERT_FILE   the authorities that https:// trusts [the system's], a PEM file

Ends with 0, with 1 when the service refuses or is not reached, with 2 for wrong use.
";
/// All names, with commas between them.
pub(super) fn names() -> String {
    USAGES.map(|usage| usage.name).join(", ")
}

/// What `balanced jobs --help` says.
pub(super) fn help() -> String {
    let mut text = "balanced jobs - the jobs of a running service\n\nUsage:\n".to_owned();
    for usage in &USAGES {
        text.push_str(&format!("  {}\n      {}\n", usage.line(), usage.meaning));
    }
    text.push_str(&format!("  balanced jobs COMMAND --help\n\n{ENVIRONMENT}"));
    text
}

impl Usage {
    /// How it is used.
    pub(super) fn line(&self) -> String {
        format!("balanced jobs {} {}", self.name, self.words)
    }

    /// What `--help` says of it.
    pub(super) fn help(&self) -> String {
        let Usage { meaning, more, .. } = self;
        format!("{}\n\n{meaning}\n\n{more}\n\n{ENVIRONMENT}", self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::{Order, read};
    use super::*;

    #[test]
    fn every_command_has_its_help_and_no_line_of_it_is_long() {
        let of_each = USAGES.map(|usage| vec![usage.name, "x", "--help"]);
        for words in of_each.into_iter().chain([vec!["--help"], vec!["help"]]) {
            let Ok(Order::Help(text)) = read(&words) else { panic!("{words:?}") };
            assert!(text.contains("BALANCED_TOKEN"), "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(90), "{text}");
        }
    }
}
