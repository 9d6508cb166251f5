//! What the services need of the file system, for the rules of Landlock. Each service says its own.

use std::path::{Path, PathBuf};

/// What is done with a file, or with all that is beneath a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Read.
    Read,
    /// Read, and started as a program.
    Execute,
    /// Read, written, made, removed, renamed.
    Write,
}

/// A table of places and what is done there.
///
/// A rule holds for the file that is there when it is made, not for its name. Files that are replaced while the agent runs,
/// such as a renewed certificate, are therefore named by [`Needs::file`], which grants the directory around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    rows: Vec<(PathBuf, Use)>,
    programs: bool,
}

impl Needs {
    /// Reads the file or all files beneath the directory.
    pub fn read(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Read)
    }

    /// Reads the file, also when another takes its name: the directory that it is in is granted. The file may be missing yet.
    pub fn file(&mut self, path: impl AsRef<Path>) -> &mut Self {
        let path = path.as_ref();
        // What a link leads to lies elsewhere.
        if let Some(target) = path.canonicalize().ok().filter(|target| target != path) {
            self.read(around(&target));
        }
        self.read(around(path))
    }

    /// Writes the file or all files beneath the directory, and reads them.
    pub fn write(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Write)
    }

    /// Starts the program. What programs need as a rule (interpreters and libraries of the system, its temporary directory)
    /// is granted with it.
    pub fn execute(&mut self, program: impl Into<PathBuf>) -> &mut Self {
        self.programs = true;
        self.add(program, Use::Execute)
    }

    /// Adds what another table says.
    pub fn add_all(&mut self, others: &Self) {
        self.rows.extend_from_slice(&others.rows);
        self.programs |= others.programs;
    }

    /// All places in the order in which they were told, with what the programs need.
    pub fn rows(&self) -> impl Iterator<Item = (&Path, Use)> {
        let programs = SYSTEM.iter().filter(|_| self.programs).map(|path| (Path::new(path), Use::Execute));
        self.rows.iter().map(|(path, use_)| (path.as_path(), *use_)).chain(programs)
    }

    /// Whether programs are started.
    pub fn has_programs(&self) -> bool {
        self.programs
    }

    fn add(&mut self, path: impl Into<PathBuf>, use_: Use) -> &mut Self {
        self.rows.push((path.into(), use_));
        self
    }
}

/// Where the programs and libraries of a system are; what is missing on a system is passed over.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt"];

/// The directory of a file; the file alone where that would be all files there are.
fn around(path: &Path) -> &Path {
    path.parent().filter(|parent| parent.parent().is_some()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_be_replaced_is_granted_by_its_directory() {
        let mut needs = Needs::default();
        needs.file("/nowhere/tls/key.pem").file("/key.pem").write("/var/lib/x");
        let rows: Vec<_> = needs.rows().collect();
        assert_eq!(
            rows,
            [
                (Path::new("/nowhere/tls"), Use::Read),
                (Path::new("/key.pem"), Use::Read),
                (Path::new("/var/lib/x"), Use::Write)
            ]
        );
    }

    #[test]
    fn the_systems_programs_are_granted_only_to_who_starts_some() {
        let mut needs = Needs::default();
        assert!(!needs.rows().any(|(_, use_)| use_ == Use::Execute));
        needs.execute("/opt/app/run");
        assert!(needs.has_programs() && needs.rows().any(|row| row == (Path::new("/usr"), Use::Execute)));
    }
}
