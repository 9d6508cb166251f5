//! Messages of QoS 1 and 2 that the killed process receives and handles.
//!
//! What the handler did is in a file when it returns. The outbox has the packet id of a message of QoS 2 a moment later, and
//! only then the broker hears of it. A kill between the two lets the message be handled again by the next process; once
//! the broker has the PUBREC it never is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ioto::mqtt::{self, Message, QoS};
use smol::{LocalExecutor, Timer};

use super::{Broker, Directory, LONG, PUBACK, PUBCOMP, PUBREC, PUBREL, options, seeds, start_agent, take_packet};

const LIVES: u32 = 6;
const WINDOW: usize = 10;
/// Packet ids come around soon.
const IDS: u16 = 25;
/// Bytes of what a handler writes: life, number.
const RECORD: usize = 8;

/// A message on its way to the agent.
struct Sent {
    number: u32,
    is_released: bool,
    /// When it was sent first: the others are repeated in this order.
    turn: u32,
}

/// What the broker knows and saw. Messages of even numbers are of QoS 2, the others of QoS 1.
#[derive(Default)]
struct Seen {
    next: u32,
    /// No new messages.
    is_over: bool,
    is_subscribed: bool,
    is_known: bool,
    sent: BTreeMap<u16, Sent>,
    last_id: u16,
    repeats: u32,
    /// Where the handler writes.
    handled: PathBuf,
    /// Bytes of that when the PUBREC of a message came.
    recorded: HashMap<u32, usize>,
    wrong: Option<String>,
}

impl Seen {
    fn publish(&mut self, id: u16, dup: bool) -> Vec<u8> {
        let Sent { number, is_released, .. } = self.sent[&id];
        let [high, low] = id.to_be_bytes();
        if is_released {
            return vec![PUBREL, 2, high, low];
        }
        let qos = qos(number);
        let mut packet = vec![0x30 | u8::from(dup) << 3 | qos << 1, 12, 0, 4, b'i', b'n', b'/', b'0' + qos, high, low];
        packet.extend(number.to_be_bytes());
        packet
    }

    /// All that is not acknowledged, oldest first.
    fn repeat(&mut self) -> Vec<u8> {
        let mut ids: Vec<u16> = self.sent.keys().copied().collect();
        ids.sort_by_key(|id| self.sent[id].turn);
        self.repeats += ids.len() as u32;
        ids.into_iter().flat_map(|id| self.publish(id, true)).collect()
    }

    fn next(&mut self) -> Vec<u8> {
        if self.is_over || !self.is_subscribed || self.sent.len() >= WINDOW {
            return Vec::new();
        }
        while self.last_id == 0 || self.sent.contains_key(&self.last_id) {
            self.last_id = self.last_id % IDS + 1;
        }
        let (id, number) = (self.last_id, self.next);
        self.sent.insert(id, Sent { number, is_released: false, turn: number });
        self.next += 1;
        self.last_id = self.last_id % IDS + 1;
        self.publish(id, false)
    }

    fn take(&mut self, (first, body): (u8, Vec<u8>), random: &mut Rng) -> Vec<u8> {
        let id = u16::from_be_bytes([body.first().copied().unwrap_or(0), body.get(1).copied().unwrap_or(0)]);
        match first & 0xf0 {
            0x10 => {
                let mut answer = vec![0x20, 2, u8::from(std::mem::replace(&mut self.is_known, true)), 0];
                answer.extend(self.repeat());
                answer
            }
            0x80 => {
                self.is_subscribed = true;
                vec![0x90, 3, body[0], body[1], 2]
            }
            PUBACK => {
                match self.sent.remove(&id) {
                    Some(sent) if qos(sent.number) == 1 => self.check_handled(sent.number),
                    _ => self.is_wrong(format!("PUBACK {id} is for nothing")),
                }
                Vec::new()
            }
            PUBREC => {
                if let Some(sent) = self.sent.get_mut(&id) {
                    sent.is_released = true;
                    let number = sent.number;
                    self.check_handled(number);
                }
                [PUBREL, 2, body[0], body[1]].repeat(random.usize(1..3))
            }
            PUBCOMP => {
                // The answer to a repeated PUBREL may come when the id is used again.
                if self.sent.get(&id).is_some_and(|sent| sent.is_released) {
                    self.sent.remove(&id);
                }
                Vec::new()
            }
            0xc0 => vec![0xd0, 0],
            _ => Vec::new(),
        }
    }

    /// The handler was done with the message before it was acknowledged.
    fn check_handled(&mut self, number: u32) {
        let bytes = fs::read(&self.handled).unwrap_or_default();
        if !records(&bytes).any(|(_, known)| known == number) {
            self.is_wrong(format!("{number} is acknowledged, but not handled"));
        }
        self.recorded.entry(number).or_insert(bytes.len());
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}

fn qos(number: u32) -> u8 {
    if number % 2 == 0 { 2 } else { 1 }
}

fn records(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(RECORD).map(move |record| (number(&record[..4]), number(&record[4..])))
}

/// One connection, to its cut.
fn serve(stream: &mut TcpStream, seen: &Mutex<Seen>, random: &mut Rng) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(3)))?;
    stream.set_nodelay(true)?;
    let mut left = if random.bool() { random.usize(30..2000) } else { usize::MAX };
    let (mut buffer, mut is_welcome) = (Vec::new(), false);
    while left > 0 {
        let mut bytes = [0; 512];
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            other => other?,
        };
        buffer.extend_from_slice(&bytes[..count]);
        let mut output = Vec::new();
        {
            let mut seen = seen.lock().unwrap();
            while let Some(packet) = take_packet(&mut buffer) {
                is_welcome = true;
                output.extend(seen.take(packet, random));
            }
            if !is_welcome {
                continue;
            }
            (0..random.usize(..4)).for_each(|_| output.extend(seen.next()));
            let twice = random.u16(1..=IDS);
            let is_exact = seen.sent.get(&twice).is_some_and(|sent| qos(sent.number) == 2);
            if is_exact && random.u8(..8) == 0 {
                output.extend(seen.publish(twice, true));
            }
        }
        output.truncate(left);
        left -= output.len();
        stream.write_all(&output)?;
    }
    Ok(())
}

#[test]
#[ignore = "is started by the other tests here, as the program that they kill"]
fn agent() {
    let Some(options) = options() else { return };
    let directory = PathBuf::from(std::env::var("KILLS_DIRECTORY").unwrap());
    let life: u32 = std::env::var("KILLS_LIFE").unwrap().parse().unwrap();
    let (client, connection) = mqtt::open(options).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(directory.join("handled")).unwrap();
    let handler = async move |message: Message| {
        if fastrand::bool() {
            Timer::after(Duration::from_micros(fastrand::u64(..2000))).await;
        }
        let mut record = life.to_be_bytes().to_vec();
        record.extend_from_slice(&message.payload);
        file.write_all(&record).unwrap();
    };
    let executor = LocalExecutor::new();
    let running = executor.spawn(connection.run());
    smol::block_on(executor.run(async {
        client.subscribe("in/+", QoS::ExactlyOnce, handler).await.unwrap();
        running.await;
    }));
}

/// Some lives of the agent that all end by SIGKILL, the last one when it has handled everything.
fn run(seed: u64) -> (u32, u32, usize) {
    println!("SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let directory = Directory::new();
    let broker = Broker::start(random.u64(..), serve);
    broker.seen.lock().unwrap().handled = directory.0.join("handled");
    for life in 0..=LIVES {
        let mut agent = start_agent("inbound::agent", &directory.0, broker.port, &[("KILLS_LIFE", life)]);
        if life < LIVES {
            thread::sleep(Duration::from_millis(random.u64(20..250)));
        } else {
            broker.seen.lock().unwrap().is_over = true;
            let start = Instant::now();
            while !broker.seen.lock().unwrap().sent.is_empty() && start.elapsed() < LONG {
                thread::sleep(Duration::from_millis(5));
            }
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.wrong, None);
    assert!(seen.sent.is_empty(), "{} messages were not acknowledged", seen.sent.len());
    let twice = check(&seen, &directory.0);
    (seen.next, seen.repeats, twice)
}

/// How many messages of QoS 2 were handled, and had to be handled again by the next process.
fn check(seen: &Seen, directory: &Path) -> usize {
    let bytes = fs::read(directory.join("handled")).unwrap();
    let (mut lives, mut last) = (HashMap::<u32, HashSet<u32>>::new(), [0, 0]);
    for (place, (life, number)) in records(&bytes).enumerate() {
        let is_first = !lives.contains_key(&number);
        let is_new = lives.entry(number).or_default().insert(life);
        let recorded = seen.recorded[&number];
        if qos(number) == 2 {
            assert!(is_new, "{number} was handled twice by one process");
            assert!(place * RECORD < recorded, "{number} was handled again after its PUBREC");
        }
        let last = &mut last[usize::from(qos(number) - 1)];
        assert!(!is_first || number >= *last, "{number} was handled after {last}");
        *last = number.max(*last);
    }
    for number in 0..seen.next {
        assert!(lives.contains_key(&number), "{number} was not handled");
    }
    lives.iter().filter(|(number, lives)| qos(**number) == 2 && lives.len() > 1).count()
}

#[test]
fn each_message_for_a_killed_process_is_handled_and_no_more_once_the_broker_knows() {
    let (mut messages, mut repeats, mut twice) = (0, 0, 0);
    for seed in seeds() {
        let (number, repeated, again) = run(seed);
        messages += number;
        repeats += repeated;
        twice += again;
    }
    println!("{messages} messages, {repeats} repeats, {twice} of QoS 2 handled, but not recorded before a kill");
    assert!(messages > 500 && repeats > 50, "the faults were not there: {messages} messages, {repeats} repeats");
}
