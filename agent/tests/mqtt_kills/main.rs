//! The MQTT client as a process that is killed at any instant, over real sockets, with its outbox in a real file, against a
//! broker of its own that cuts connections after some bytes, repeats and keeps back answers, and sends garbage.

#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used)]

mod full_disk;
mod inbound;
mod outbound;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use ioto::mqtt::Options;

/// Of each kind.
const RUNS: usize = 12;
const LONG: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_millis(5);

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// A broker on a thread, which serves one connection after the other.
struct Broker<S> {
    seen: Arc<Mutex<S>>,
    stop: Arc<AtomicBool>,
    port: u16,
    thread: Option<thread::JoinHandle<()>>,
}

impl<S: Default + Send + 'static> Broker<S> {
    fn start(
        seed: u64,
        serve: impl Fn(&mut TcpStream, &Mutex<S>, &mut Rng) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, stop) = (Arc::new(Mutex::new(S::default())), Arc::new(AtomicBool::new(false)));
        let (shared, stopping) = (seen.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut random = Rng::with_seed(seed);
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                // However it ends: the next one comes.
                let _ = serve(&mut stream.unwrap(), &shared, &mut random);
            }
        });
        Self { seen, stop, port, thread: Some(thread) }
    }
}

impl<S> Drop for Broker<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// The next whole packet: its first byte and what follows its length.
fn take_packet(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (mut length, mut header) = (0, 1);
    loop {
        let byte = *buffer.get(header)?;
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte < 0x80 {
            break;
        }
    }
    if buffer.len() < header + length {
        return None;
    }
    let packet: Vec<u8> = buffer.drain(..header + length).collect();
    Some((packet[0], packet[header..].to_vec()))
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-mqtt-kills-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts this program again as the agent, which is an ignored test.
fn start_agent(test: &str, directory: &Path, port: u16, variables: &[(&str, u32)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env_clear();
    command.env("KILLS_DIRECTORY", directory).env("KILLS_PORT", port.to_string());
    command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The options of the agent; nothing if this program was not started as one.
fn options() -> Option<Options> {
    let directory = PathBuf::from(std::env::var("KILLS_DIRECTORY").ok()?);
    let port = std::env::var("KILLS_PORT").ok()?.parse().ok()?;
    let options = Options::new("127.0.0.1", port, "kills").backoff(BACKOFF, BACKOFF * 4).inflight(10);
    Some(options.timeout(Duration::from_secs(2)).outbox(directory.join("outbox")))
}

/// The seeds of some runs; the first is that of the environment, if there is one.
fn seeds() -> Vec<u64> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    (0..RUNS).map(|number| if number == 0 { seed } else { random.u64(..) }).collect()
}
