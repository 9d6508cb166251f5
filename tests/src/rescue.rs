//! `ioto-rescue` under test: the real program, a process of its own beside the agent.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::agent::program;
use crate::{Client, Response, eventually};

/// How long it may take to get ready.
const START: Duration = Duration::from_secs(10);

/// A running `ioto-rescue` that serves `rescue.sock` in a run directory; killed when dropped.
#[derive(Debug)]
pub struct Rescue {
    child: Child,
    run: PathBuf,
}

impl Rescue {
    /// Starts it, as the user that the tests run as, and waits for its first answer.
    pub fn start(run: &Path, arguments: &[&str]) -> Self {
        let who = ["--user", "root", "--group", "root"];
        let rescue = Self::launch(run, &[&who[..], arguments].concat());
        eventually("ioto-rescue answers", START, || rescue.get("/livez").ok());
        rescue
    }

    /// Starts it with these arguments alone and waits for nothing. Its log is `rescue.log` beside the run directory.
    pub fn launch(run: &Path, arguments: &[&str]) -> Self {
        let log = File::create(run.with_extension("rescue.log")).expect("make a log");
        let child = command(run)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start ioto-rescue");
        Self { child, run: run.into() }
    }

    /// Its other commands: runs `ioto-rescue WORDS…` to the end.
    pub fn ask(run: &Path, words: &[&str]) -> Output {
        command(run).args(words).output().expect("run ioto-rescue")
    }

    /// A connection to it.
    pub fn connect(&self) -> io::Result<Client> {
        Client::unix(&self.socket())
    }

    /// Sends a GET over a connection of its own.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        self.connect()?.get(path)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("rescue.sock")
    }

    /// A line of `/proc/PID/status`, without the name.
    pub fn status(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("ioto-rescue runs");
        let mut values = text.lines().filter_map(|line| line.split_once(':'));
        values.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }

    /// Kills it, as if it had crashed.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Rescue {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(run: &Path) -> Command {
    let mut command = Command::new(program("ioto-rescue"));
    command.env_clear().arg("--run").arg(run);
    command
}
