//! A disk that loses its power: what a program wrote is recorded, and what a cut at any instant leaves of it is made.
//!
//! `recorder.c`, loaded into the program, notes every write, sync and change of names below one directory. A cut is a place in
//! these notes. What was synced before it is there; what was not may be there, or may not, in sectors and in any order.

mod image;
mod trace;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use self::image::{Fate, image};
pub use self::trace::{Record, read};
use crate::{Agent, Scratch};

/// The record of what one program does to one directory.
#[derive(Debug)]
pub struct Recording {
    scratch: Scratch,
}

impl Recording {
    /// Has the agent's writes below its state directory recorded from its next start on.
    pub fn of(agent: &mut Agent) -> Self {
        let recording = Self { scratch: Scratch::new() };
        let library = compile(recording.scratch.path());
        agent.variable("LD_PRELOAD", &library.display().to_string());
        agent.variable("DISK_TRACE", &recording.trace().display().to_string());
        agent.variable("DISK_RECORDED", &agent.scratch().path().join("state").display().to_string());
        recording
    }

    /// Notes, between what the program does, something that the test knows at this instant.
    pub fn note(&self, text: &str) {
        let mut record = Record::head(b'N', text.len());
        record.extend_from_slice(text.as_bytes());
        let file = OpenOptions::new().append(true).create(true).open(self.trace());
        file.and_then(|mut file| file.write_all(&record)).expect("note");
    }

    /// What was recorded until now.
    pub fn records(&self) -> Vec<Record> {
        read(&std::fs::read(self.trace()).expect("read the records"))
    }

    fn trace(&self) -> PathBuf {
        self.scratch.path().join("trace")
    }
}

fn compile(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/disk/recorder.c");
    let library = directory.join("recorder.so");
    let status = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(status.expect("run cc").success(), "cc cannot compile {}", source.display());
    library
}
