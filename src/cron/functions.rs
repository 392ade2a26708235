//! The functions that jobs can call, and the arguments that each takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::function::{Context, Failure};
use super::job::settings::{Arguments, Settings};

/// Does a job's work. Each call starts from the beginning, or from [`Context::last_checkpoint`].
///
/// A run can stop at any point, and its slot is then run again: each slot is run at least once. So
/// a function works in steps that can be repeated, and calls [`Context::check`] between them, at
/// least several times a second while it computes. It returns a short result for the history.
pub type Function = Arc<dyn Fn(&Context) -> Result<String, Failure> + Send + Sync>;

/// The functions that this build can run, by name.
#[derive(Clone, Default)]
pub struct Functions(BTreeMap<String, Entry>);

#[derive(Clone)]
struct Entry {
    function: Function,
    /// The arguments that it takes, in words.
    rule: &'static str,
    example: Value,
    takes: Arc<dyn Fn(&Arguments) -> bool + Send + Sync>,
}

/// What a function is called by, and what it takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Described<'a> {
    /// The name by which jobs call it.
    pub name: &'a str,
    /// The arguments that it takes, in words.
    pub arguments: &'a str,
    /// Arguments that it takes.
    pub example: &'a Value,
}

/// The members of a job's arguments, by name.
type Members = Map<String, Value>;

impl Functions {
    /// Starts without any function.
    pub fn new() -> Functions {
        Functions::default()
    }

    /// Adds a function that takes no arguments, or replaces the one of the same name.
    pub fn with(
        self,
        name: &str,
        function: impl Fn(&Context) -> Result<String, Failure> + Send + Sync + 'static,
    ) -> Functions {
        let none = |members: &Members| members.is_empty().then_some(());
        let call = move |context: &Context, ()| function(context);
        self.with_arguments(name, "{}: it takes none", json!({}), none, call)
    }

    /// Adds a function, or replaces the one of the same name. `read` makes of a job's arguments
    /// what the function is given, or None of those that it does not take. `rule` says what it
    /// takes, and stands after "must be"; `example` is one of these.
    pub fn with_arguments<T>(
        mut self,
        name: &str,
        rule: &'static str,
        example: Value,
        read: impl Fn(&Members) -> Option<T> + Copy + Send + Sync + 'static,
        function: impl Fn(&Context, T) -> Result<String, Failure> + Send + Sync + 'static,
    ) -> Functions {
        let read = move |arguments: &Arguments| read(&arguments.members()?);
        // Somebody may have written into the table directly, or for a replica of another build.
        let call = move |context: &Context| match read(context.arguments()) {
            Some(arguments) => function(context, arguments),
            None => Err(Failure::Failed(format!("its arguments must be {rule}"))),
        };
        let takes = Arc::new(move |arguments: &Arguments| read(arguments).is_some());
        self.0.insert(name.to_owned(), Entry { function: Arc::new(call), rule, example, takes });
        self
    }

    /// Whether the function of these settings takes their arguments. One that this build lacks
    /// cannot be asked, and so takes any.
    ///
    /// # Errors
    /// What it takes, in words.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), String> {
        let name = &settings.function;
        match self.0.get(name) {
            Some(entry) if !(entry.takes)(&settings.arguments) => {
                Err(format!("`arguments` of the function `{name}` must be {}", entry.rule))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All functions, by name.
    pub fn list(&self) -> Vec<Described<'_>> {
        let all = self.0.iter();
        all.map(|(name, Entry { rule, example, .. })| Described { name, arguments: rule, example })
            .collect()
    }

    /// The names of all functions, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name).map(|entry| &entry.function)
    }
}
