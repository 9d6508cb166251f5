//! The logs of the operating system reach the sink: all of them, and none twice for who compares ids.
//!
//! The lines of the kernel go through the machine's own `/dev/kmsg`, which namespaces do not divide. They are few, so that
//! they stay in its buffer, and have a name of this run, so that what is there beside them is left out.

#[path = "../../agent/tests/logs/journald.rs"]
mod journald;
#[path = "../../agent/tests/logs/receiver.rs"]
#[allow(clippy::unwrap_used, dead_code)]
mod receiver;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use ioto_tests::{Agent, Scratch, eventually, seed};
use journald::{Journald, SOCKET};
use receiver::{Message, Receiver};

const KMSG: &str = "/dev/kmsg";
const KILLS: usize = 10;
const RESTARTS: usize = 2;
const LONG: Duration = Duration::from_secs(600);

/// `IOTO_TEST_LOG_LINES`, in all; 100,000 is the size that counts.
fn lines() -> usize {
    env::var("IOTO_TEST_LOG_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(20_000)
}

#[test]
fn every_line_of_journal_files_and_kernel_arrives_over_kills_restarts_rotation_and_an_outage() {
    journald::in_namespaces("inside");
}

/// Writes lines into the journal, as many as are asked for in all.
struct JournalWriter {
    socket: UnixDatagram,
    written: usize,
}

impl JournalWriter {
    fn write(&mut self) {
        let text = text("journal", self.written);
        let entry = format!("MESSAGE={text}\nPRIORITY=6\nSYSLOG_IDENTIFIER=writer\n");
        self.socket.send_to(entry.as_bytes(), SOCKET).expect("journald takes a line");
        self.written += 1;
    }
}

/// Writes lines into the kernel's buffer.
struct KernelWriter {
    identifier: String,
    written: usize,
    total: usize,
}

impl KernelWriter {
    /// One of 20 lines; none where the device cannot be written and read.
    fn new() -> Self {
        let opened = File::options().read(true).write(true).open(KMSG);
        if let Err(error) = &opened {
            println!("without lines of the kernel: {KMSG}: {error}");
        }
        let total = if opened.is_ok() { lines() / 20 } else { 0 };
        Self { identifier: format!("writer{:x}", fastrand::u32(..)), written: 0, total }
    }

    fn write(&mut self) {
        // Opened again and again: what is opened once may write ten lines in five seconds.
        let mut device = File::options().write(true).open(KMSG).expect("open the kernel's buffer");
        // Facility user, severity debug, so that no console shows it.
        let line = format!("<15>{}: {}\n", self.identifier, text("kernel", self.written));
        device.write_all(line.as_bytes()).expect("the kernel takes a line");
        self.written += 1;
    }
}

/// Appends lines to a file, which is set aside when it is long.
struct FileWriter {
    path: PathBuf,
    file: File,
    written: usize,
}

impl FileWriter {
    fn new(path: PathBuf) -> Self {
        let file = File::options().append(true).create(true).open(&path).expect("open the log");
        Self { path, file, written: 0 }
    }

    fn write(&mut self, each: usize) {
        writeln!(self.file, "{}", text("file", self.written)).expect("write the log");
        self.written += 1;
        if self.written % each == 0 {
            let aside = self.path.with_extension("log.1");
            fs::rename(&self.path, aside).expect("rotate");
            self.file = File::options().append(true).create(true).open(&self.path).expect("open the log");
        }
    }
}

fn text(source: &str, line: usize) -> String {
    format!("{source} line {line} {}", "x".repeat(line * 7919 % 100))
}

#[test]
#[ignore = "runs inside of namespaces, started by the test above"]
fn inside() {
    fastrand::seed(seed());
    let mut kernel = KernelWriter::new();
    let half = (lines() - kernel.total) / 2;
    let all = half * 2 + kernel.total;
    let mut receiver = Receiver::new();
    let scratch = Scratch::new();
    let log = scratch.path().join("app.log");
    let mut agent = Agent::new();
    agent.configure(
        "logs",
        &format!(
            "{{services: {{logs: true, database: false}}, logs: {{sink: 'syslog+tcp://{}', linger: '200 ms', sources: [
              {{journal: {{position: 'start', kernel: false}}, filter: {{identifiers: ['writer']}}}},
              {{kernel: {{}}, filter: {{identifiers: ['{}'], severity: 'debug'}}}},
              {{files: ['{}'], position: 'start', name: 'files', linger: '200 ms'}}]}}}}",
            receiver.address,
            kernel.identifier,
            log.display()
        ),
    );
    let mut journald = Journald::start("SystemMaxUse=1G");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.set_write_timeout(Some(LONG)).expect("a limit");
    let mut journal = JournalWriter { socket, written: 0 };
    let mut files = FileWriter::new(log);
    agent.start();

    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while files.written < half {
                for _ in 0..50.min(half - files.written) {
                    files.write(half / 5);
                }
                thread::sleep(Duration::from_millis(fastrand::u64(..40)));
            }
        });
        scope.spawn(|| {
            while journal.written < half {
                for _ in 0..50.min(half - journal.written) {
                    journal.write();
                }
                thread::sleep(Duration::from_millis(fastrand::u64(..40)));
            }
        });
        scope.spawn(|| {
            while kernel.written < kernel.total {
                for _ in 0..5.min(kernel.total - kernel.written) {
                    kernel.write();
                }
                thread::sleep(Duration::from_millis(fastrand::u64(..40)));
            }
        });
        for kill in 0..KILLS {
            if kill == 3 {
                receiver.stop();
            }
            if kill == 6 {
                receiver.start();
            }
            if kill % (KILLS / RESTARTS) == 1 {
                journald.restart();
            }
            thread::sleep(Duration::from_millis(fastrand::u64(100..1000)));
            agent.kill();
            agent.start();
        }
    });
    receiver.wait(all, LONG);
    let took = began.elapsed();
    let messages = receiver.messages();
    let repeats = check(&messages, &[("journal", half), ("file", half), ("kernel", kernel.total)]);
    println!(
        "{all} lines, {} of them of the kernel, {KILLS} kills, {RESTARTS} restarts of journald, an outage of the sink: all \
         arrived in {took:.1?}, {repeats} were sent again with the id that they had",
        kernel.total
    );
    // At most what was underway at a kill, 64 KB, and what was acknowledged last, 256 KB and the batches these are in: lines
    // have 200 bytes and more.
    assert!(repeats <= KILLS * (448 << 10) / 200, "{repeats} repeats");
    agent.stop();
    journald.stop();
}

/// Every line is there, and under one id alone. How often ids were repeated.
fn check(messages: &[Message], sources: &[(&str, usize)]) -> usize {
    let mut ids: HashMap<&str, &Message> = HashMap::new();
    let repeats = messages.iter().filter(|message| ids.insert(message.id(), message).is_some()).count();
    let texts: HashSet<_> = ids.values().map(|message| message.text.as_str()).collect();
    for &(source, count) in sources {
        let missing: Vec<_> = (0..count).filter(|&line| !texts.contains(text(source, line).as_str())).collect();
        assert!(
            missing.is_empty(),
            "{} of {source} are missing: {:?}",
            missing.len(),
            &missing[..missing.len().min(20)]
        );
    }
    let all = sources.iter().map(|(_, count)| count).sum::<usize>();
    assert_eq!((ids.len(), texts.len()), (all, all), "some lines came under two ids");
    repeats
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A disk without room stops the forwarding for as long as that lasts, and nothing else.
#[test]
fn a_full_disk_holds_the_sources_up_and_loses_nothing() {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        println!("skipped: needs root for a small disk");
        return;
    }
    let mut receiver = Receiver::new();
    receiver.stop();
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let mut files = FileWriter::new(path("app.log"));
    for name in ["state", "share"] {
        fs::create_dir(path(name)).expect("make a directory");
    }
    scratch.write(
        "config/ioto.json5",
        &format!(
            "{{services: {{logs: true, database: false, web: false}}, directories: {{run: '{}'}}, logs: {{sink: \
             'syslog+tcp://{}', linger: '50 ms', sources: [{{files: ['{}'], position: 'start', name: 'files', \
             linger: '50 ms'}}]}}}}",
            path("run").display(),
            receiver.address,
            path("app.log").display()
        ),
    );
    let program = env::current_exe().expect("the test's own path");
    let program = program.ancestors().nth(2).expect("its directory").join("ioto");
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs {0} && exec {1} run --profile dev --config {2} --state {0}",
        path("state").display(),
        program.display(),
        path("config").display()
    );
    let log = File::create(path("log")).expect("make the log");
    let agent = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("IOTO_DIRECTORIES_SHARE", path("share"))
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("start the agent");
    let mut agent = Ended(agent);
    let said = |what: &str| fs::read_to_string(path("log")).is_ok_and(|log| log.contains(what));
    let limit = Duration::from_secs(60);
    eventually("the agent is up", limit, || said("services running").then_some(()));
    let (id, total) = (agent.0.id().to_string(), 30_000);
    let inside = |command: &str| {
        let ran = Command::new("nsenter").args(["-t", &id, "-m", "sh", "-c", command]).stderr(Stdio::null()).status();
        assert!(ran.is_ok());
    };
    inside(&format!("cat /dev/zero >{}/filler", path("state").display()));
    while files.written < total {
        files.write(total + 1);
    }
    eventually("it says that there is no room", limit, || said("no room on the disk").then_some(()));
    inside(&format!("rm {}/filler", path("state").display()));
    receiver.start();
    let began = Instant::now();
    while receiver.distinct() < total && began.elapsed() < limit {
        thread::sleep(Duration::from_millis(50));
    }
    let texts: HashSet<_> = receiver.messages().into_iter().map(|message| message.text).collect();
    let missing: Vec<_> = (0..total).filter(|&line| !texts.contains(&text("file", line))).collect();
    let log = fs::read_to_string(path("log")).unwrap_or_default();
    assert!(missing.is_empty(), "{} are missing: {:?}\n{log}", missing.len(), &missing[..missing.len().min(20)]);
    assert_eq!(texts.len(), total);
    ioto_tests::send(&agent.0, ioto_tests::Signal::Term);
    let _ = agent.0.wait();
    assert!(said("can be written again"), "{}", fs::read_to_string(path("log")).unwrap_or_default());
}
