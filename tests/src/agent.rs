//! The agent under test: the real program, a process of its own.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::{Client, Scratch, Signal, free_port, send};

/// How long it may take to get ready.
const START: Duration = Duration::from_secs(10);

/// The user to whom the agent shall change, with all of its sandbox; a test run without it is one of a developer's machine.
const SANDBOX: &str = "IOTO_TEST_SANDBOX";

/// The program `ioto` with profile dev, a free port, and configuration, state and pages in a temporary directory.
///
/// Nothing of the machine or the repository is read: the directory of shipped defaults is empty, and `IOTO_*` and `AWS_*`
/// variables of the test are kept from it.
#[derive(Debug)]
pub struct Agent {
    scratch: Scratch,
    port: u16,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    descriptors: Option<u32>,
    child: Option<Child>,
}

impl Agent {
    /// Lays out the directories; nothing is started yet.
    #[expect(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        let (scratch, port) = (Scratch::new(), free_port());
        let base = format!("{{web: {{listen: ['http://127.0.0.1:{port}'], api: {{open: true}}}}}}\n");
        scratch.write("config/ioto.json5", &base);
        scratch.write("www/index.html", "<!doctype html><title>test</title>\n");
        fs::create_dir(scratch.path().join("share")).expect("make a directory");
        Self { scratch, port, variables: Vec::new(), arguments: Vec::new(), descriptors: None, child: None }
    }

    /// Adds or replaces the drop-in `ioto.d/NAME.json5`; read at the next start.
    pub fn configure(&self, name: &str, text: &str) -> &Self {
        self.scratch.write(&format!("config/ioto.d/{name}.json5"), text);
        self
    }

    /// Sets the database's schema; read at the next start.
    pub fn schema(&self, text: &str) -> &Self {
        self.scratch.write("config/schema.json5", text);
        self
    }

    /// Sets an environment variable from the next start on.
    pub fn variable(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Adds an argument of `ioto run` from the next start on.
    pub fn argument(&mut self, argument: &str) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    /// Gives it so few file descriptors from the next start on.
    pub fn descriptors(&mut self, limit: u32) -> &mut Self {
        self.descriptors = Some(limit);
        self
    }

    /// Starts it and waits for its first HTTP answer; returns how long that took. Panics with its log when it fails.
    pub fn start(&mut self) -> Duration {
        let began = Instant::now();
        self.launch();
        loop {
            if Client::connect(self.address()).and_then(|mut client| client.get("/")).is_ok() {
                return began.elapsed();
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the agent ended at its start, {status}; see its log below");
            }
            assert!(began.elapsed() < START, "the agent is not ready after {START:?}; see its log below");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it and waits for its end: for configurations that it must refuse.
    pub fn run_to_end(&mut self, limit: Duration) -> ExitStatus {
        self.launch();
        self.ended(limit)
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self) {
        self.kill();
        let directory = self.scratch.path();
        let log = || -> Stdio { self.log_file().into() };
        let mut command = match self.descriptors {
            None => Command::new(program()),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(program());
                shell
            }
        };
        for (name, _) in env::vars_os() {
            let foreign = ["IOTO_", "AWS_", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM"];
            if foreign.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        // The same tests in the sandbox of a device: `IOTO_TEST_SANDBOX=USER`, as root or as that user.
        if let Ok(user) = env::var(SANDBOX) {
            command.env("IOTO_SANDBOX_ENABLE", "true").env("IOTO_SANDBOX_USER", user);
        }
        command
            .args(["run", "--profile", "dev"])
            .args(["--config".as_ref(), directory.join("config").as_os_str()])
            .args(["--state".as_ref(), directory.join("state").as_os_str()])
            .args(&self.arguments)
            .env("IOTO_DIRECTORIES_SHARE", directory.join("share"))
            .env("IOTO_DIRECTORIES_SITE", directory.join("www"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        self.child = Some(command.spawn().expect("start the agent"));
    }

    /// Kills it, as the kernel would when memory is short: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end by SIGTERM; returns its exit status and how long it took, 10 s at most.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::Term);
        let status = self.ended(Duration::from_secs(10));
        (status, began.elapsed())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.as_ref().expect("the agent was started"), signal);
    }

    /// Its HTTP listener.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A connection to its HTTP listener.
    pub fn client(&self) -> Client {
        Client::connect(self.address()).expect("connect to the agent")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the agent was started").id()
    }

    /// What it wrote to standard output and standard error since it was first started.
    pub fn log(&self) -> String {
        fs::read(self.scratch.path().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The directory with `config`, `state` and `www` in it.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn log_file(&self) -> File {
        let path = self.scratch.path().join("log");
        OpenOptions::new().create(true).append(true).open(path).expect("open the agent's log")
    }

    /// Waits for its end; panics when it does not come in time.
    fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("the agent was started");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait for the agent") {
                self.child = None;
                return status;
            }
            assert!(began.elapsed() < limit, "the agent did not end within {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the agent's log\n{}---", self.log());
        }
    }
}

/// The program to test: `IOTO_PROGRAM`, or `ioto` where cargo put it, one directory above the test's own executable.
fn program() -> PathBuf {
    let beside = || {
        let test = env::current_exe().expect("the test's own path");
        test.ancestors().skip(1).take(2).map(|directory| directory.join("ioto")).find(|program| program.exists())
    };
    let named = env::var_os("IOTO_PROGRAM").map(PathBuf::from);
    named
        .or_else(beside)
        .expect("no program `ioto` beside the tests: run `cargo build -p ioto` first, or set IOTO_PROGRAM")
}
