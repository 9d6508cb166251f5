//! Where a value comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who says a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it is the agent's own default.
    #[default]
    Default,
    /// A file of the configuration.
    File(Arc<Path>),
    /// A variable of the environment, by its name.
    Environment(Arc<str>),
    /// An option of the command line, as `--listen`.
    CommandLine(&'static str),
}

/// The place of a key or a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who says it.
    pub source: Source,
    /// The line in a file, from 1; 0: no place in particular.
    pub line: u32,
    /// The column in characters, from 1; 0: no place in particular.
    pub column: u32,
}

impl Origin {
    /// The source as a whole.
    pub fn of(source: Source) -> Self {
        Self { source, line: 0, column: 0 }
    }

    /// Whether a file says it: there, a number must be a number and a list a list.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// The directory to which a relative path belongs; nothing: the current directory.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match &self.source {
            Source::File(path) => path.parent().map(Path::to_path_buf),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => f.write_str("default"),
            Source::File(path) if self.line == 0 => write!(f, "{}", path.display()),
            Source::File(path) => write!(f, "{}:{}", path.display(), self.line),
            Source::Environment(name) => f.write_str(name),
            Source::CommandLine(option) => f.write_str(option),
        }
    }
}
