//! The MQTT client as a process that is killed at any instant, over real sockets, with its outbox in a real file, against a
//! broker of its own that cuts connections after some bytes, repeats and keeps back answers, and sends garbage.

#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ioto::mqtt::{self, Message, Options, QoS};
use smol::{LocalExecutor, Timer};

const RUNS: usize = 24;
const LIVES: u32 = 5;
/// Numbers of the messages of one life; none is used again in the next.
const SHARE: u32 = 1_000_000;
const LONG: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_millis(5);

const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// What the broker knows and saw.
#[derive(Default)]
struct Seen {
    /// Messages of QoS 2 whose PUBREL has not come, by packet id.
    open: HashMap<u16, u32>,
    /// All messages taken, in order; the same one twice if it was taken twice.
    taken: Vec<u32>,
    connections: u32,
    repeats: u32,
    lost_sessions: u32,
    wrong: Option<String>,
}

struct Broker {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    port: u16,
    thread: Option<thread::JoinHandle<()>>,
}

impl Broker {
    fn start(seed: u64, forgets: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (shared, stopping) = (seen.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut random = Rng::with_seed(seed);
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                // However it ends: the next one comes.
                let _ = serve(&mut stream.unwrap(), &shared, &mut random, forgets);
            }
        });
        Self { seen, stop, port, thread: Some(thread) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// One connection, to its cut.
fn serve(stream: &mut TcpStream, seen: &Mutex<Seen>, random: &mut Rng, forgets: bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    let mut left = random.usize(150..4000);
    let mut buffer = Vec::new();
    while left > 0 {
        let mut bytes = [0; 512];
        let most = left.min(bytes.len());
        let count = stream.read(&mut bytes[..most])?;
        if count == 0 {
            return Ok(());
        }
        left -= count;
        buffer.extend_from_slice(&bytes[..count]);
        let mut answers = Vec::new();
        while let Some(packet) = take_packet(&mut buffer) {
            answer(&packet, &mut seen.lock().unwrap(), random, forgets, &mut answers);
        }
        if random.u8(..40) == 0 {
            answers.extend([0xf0, 0]);
        }
        if random.u8(..10) == 0 {
            thread::sleep(Duration::from_millis(random.u64(..10)));
        }
        // The answers to what came just before the cut may be lost with it.
        if left > 0 || random.bool() {
            stream.write_all(&answers)?;
        }
    }
    Ok(())
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

fn answer((first, body): &(u8, Vec<u8>), seen: &mut Seen, random: &mut Rng, forgets: bool, answers: &mut Vec<u8>) {
    let times = if random.u8(..10) == 0 { 2 } else { 1 };
    let mut say = |kind: u8, id: u16| {
        let [high, low] = id.to_be_bytes();
        (0..times).for_each(|_| answers.extend([kind, 2, high, low]));
    };
    let id_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        1 => {
            let is_lost = forgets && random.u8(..4) == 0;
            let is_present = seen.connections > 0 && !is_lost;
            seen.connections += 1;
            if is_lost {
                seen.open.clear();
                seen.lost_sessions += 1;
            }
            answers.extend([0x20, 2, u8::from(is_present), 0]);
        }
        3 => {
            let topic = usize::from(id_at(0));
            let id = id_at(2 + topic);
            let number = u32::from_be_bytes(body[4 + topic..].try_into().unwrap());
            take_message(seen, id, number, first & 8 != 0);
            say(PUBREC, id);
        }
        6 => {
            if *first != PUBREL {
                seen.wrong = Some(format!("a PUBREL begins with {first:#04x}"));
            }
            seen.open.remove(&id_at(0));
            say(PUBCOMP, id_at(0));
        }
        12 => answers.extend([0xd0, 0]),
        _ => {}
    }
}

fn take_message(seen: &mut Seen, id: u16, number: u32, dup: bool) {
    match seen.open.insert(id, number) {
        None => seen.taken.push(number),
        Some(known) if known == number && dup => seen.repeats += 1,
        Some(known) => {
            let what = format!("packet id {id} of message {known} was used for {number} (DUP: {dup})");
            seen.wrong.get_or_insert(what);
        }
    }
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

/// Starts this program again as the agent: it publishes from number `first` on, or, without one, ends when all is sent.
fn start_agent(directory: &Path, port: u16, first: Option<u32>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["agent", "--exact", "--ignored", "--nocapture"]).env_clear();
    command.env("KILLS_DIRECTORY", directory).env("KILLS_PORT", port.to_string());
    command.envs(first.map(|first| ("KILLS_FIRST", first.to_string())));
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
#[ignore = "is started by the other tests here, as the program that they kill"]
fn agent() {
    let Ok(directory) = std::env::var("KILLS_DIRECTORY") else { return };
    let directory = PathBuf::from(directory);
    let port = std::env::var("KILLS_PORT").unwrap().parse().unwrap();
    let first: Option<u32> = std::env::var("KILLS_FIRST").ok().map(|first| first.parse().unwrap());
    let options = Options::new("127.0.0.1", port, "kills").backoff(BACKOFF, BACKOFF * 4).inflight(10);
    let options = options.timeout(Duration::from_secs(2)).outbox(directory.join("outbox"));
    let (client, connection) = mqtt::open(options).unwrap();
    let acknowledged = OpenOptions::new().create(true).append(true).open(directory.join("acknowledged")).unwrap();
    let (client, acknowledged) = (&client, &acknowledged);
    let executor = LocalExecutor::new();
    let running = executor.spawn(connection.run());
    let publish = async |number: u32| {
        let payload = number.to_be_bytes();
        client.send(Message::new("kills", payload.to_vec(), QoS::ExactlyOnce)).await.unwrap();
        let mut file = acknowledged;
        file.write_all(&payload).unwrap();
    };
    smol::block_on(executor.run(async {
        let Some(first) = first else {
            while client.state().queued + client.state().in_flight > 0 {
                Timer::after(Duration::from_millis(5)).await;
            }
            client.close();
            return running.await;
        };
        for number in first.. {
            executor.spawn(publish(number)).detach();
            Timer::after(Duration::from_millis(1)).await;
        }
    }));
}

/// Some lives of the agent that end by SIGKILL, and a last one that may end in peace.
fn run(seed: u64, forgets: bool) -> (usize, u32) {
    println!("SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let (directory, broker) = (Directory::new(), Broker::start(random.u64(..), forgets));
    let start = Instant::now();
    for life in 0..LIVES {
        let mut agent = start_agent(&directory.0, broker.port, Some(life * SHARE));
        thread::sleep(Duration::from_millis(random.u64(20..250)));
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    let mut agent = start_agent(&directory.0, broker.port, None);
    let last = Instant::now();
    let status = loop {
        if let Some(status) = agent.try_wait().unwrap() {
            break Some(status);
        }
        if last.elapsed() > LONG {
            agent.kill().unwrap();
            agent.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.is_some_and(|status| status.success()), "what was left is not sent: {status:?}");
    let seen = broker.seen.lock().unwrap();
    let most = LIVES + 2 + (start.elapsed().as_millis() / BACKOFF.as_millis()) as u32;
    assert!(seen.connections <= most, "{} connections, at most {most} were due", seen.connections);
    assert_eq!(seen.wrong, None);
    assert!(forgets || seen.open.is_empty(), "without PUBREL: {:?}", seen.open);
    check(&seen, &fs::read(directory.0.join("acknowledged")).unwrap(), forgets);
    (seen.taken.len(), seen.repeats)
}

fn check(seen: &Seen, acknowledged: &[u8], forgets: bool) {
    let mut known = HashSet::new();
    let firsts: Vec<u32> = seen.taken.iter().copied().filter(|number| known.insert(*number)).collect();
    assert!(firsts.is_sorted(), "out of order: {firsts:?}");
    assert!(forgets || firsts.len() == seen.taken.len(), "taken twice: {:?}", seen.taken);
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    for number in acknowledged.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap())) {
        assert!(known.contains(&number), "{number} counts as acknowledged and never arrived");
    }
    // Each life publishes one number after the other: if one arrived, so must all before it.
    let lives: BTreeSet<u32> = firsts.iter().map(|number| number / SHARE).collect();
    for life in lives {
        let of_life: Vec<u32> = firsts.iter().copied().filter(|number| number / SHARE == life).collect();
        let whole: Vec<u32> = (life * SHARE..).take(of_life.len()).collect();
        assert_eq!(of_life, whole, "messages of life {life} are lost");
    }
}

fn runs(forgets: bool) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let (mut messages, mut repeats) = (0, 0);
    for number in 0..RUNS / 2 {
        let (taken, repeated) = run(if number == 0 { seed } else { random.u64(..) }, forgets);
        messages += taken;
        repeats += repeated;
    }
    println!("{messages} messages, {repeats} repeats");
    assert!(messages > RUNS && repeats > 0, "the faults were not there: {messages} messages, {repeats} repeats");
}

#[test]
fn each_message_of_a_killed_process_is_taken_once_by_a_broker_that_keeps_its_session() {
    runs(false);
}

#[test]
fn no_message_of_a_killed_process_is_lost_at_a_broker_that_forgets_its_session() {
    runs(true);
}
