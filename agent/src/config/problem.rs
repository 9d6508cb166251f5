//! What is wrong with a configuration: all of it at once, a line each.

use std::fmt;

use super::json5;
use super::node::one_line;
use super::origin::{Origin, Source};

/// One thing that is wrong. It shows itself as `FILE:LINE: KEY: what is wrong, what was expected`; when the environment or
/// the command line says it, as `IOTO_X: …` or `--listen: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is said.
    pub origin: Origin,
    /// The key, dotted; empty when no single key is to blame.
    pub key: String,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyed = !self.key.is_empty();
        let line = match self.origin.source {
            Source::File(_) if keyed => format!("{}: {}: {}", self.origin, self.key, self.text),
            Source::Default if keyed => format!("{}: {}", self.key, self.text),
            Source::Default => self.text.clone(),
            _ => format!("{}: {}", self.origin, self.text),
        };
        f.write_str(&one_line(&line))
    }
}

/// Everything that is wrong, at least one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, those of one file in the order of its lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { origin, key: key.into(), text: text.into() });
    }

    pub(super) fn append(&mut self, mut more: Problems) {
        self.0.append(&mut more.0);
    }

    /// Orders by file and line.
    pub(super) fn sorted(mut self) -> Self {
        self.0.sort_by_cached_key(|problem| {
            let origin = &problem.origin;
            (Origin::of(origin.source.clone()).to_string(), origin.line, origin.column)
        });
        self
    }
}

impl From<json5::Error> for Problem {
    fn from(error: json5::Error) -> Self {
        let text = match error.origin.source {
            Source::File(_) => format!("{} (column {})", error.message, error.origin.column),
            _ => format!("{} (line {}, column {})", error.message, error.origin.line, error.origin.column),
        };
        Self { origin: error.origin, key: String::new(), text }
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        self.0.extend(problems);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "{problem}"))
    }
}

impl std::error::Error for Problems {}
