//! Messages of QoS 2 that the killed process publishes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ioto::mqtt::{self, Message, QoS};
use smol::{LocalExecutor, Timer};

use super::{
    BACKOFF, Broker, Directory, LONG, PUBCOMP, PUBREC, PUBREL, RUNS, options, seeds, start_agent, take_packet,
};

const LIVES: u32 = 5;
/// Numbers of the messages of one life; none is used again in the next.
const SHARE: u32 = 1_000_000;
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

/// One connection, to its cut.
fn serve(stream: &mut TcpStream, seen: &Mutex<Seen>, random: &mut Rng, forgets: bool) -> io::Result<()> {
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

/// Starts the agent: it publishes from number `first` on, or, without one, ends when all is sent.
fn start_life(directory: &Path, port: u16, first: Option<u32>) -> Child {
    start_agent("outbound::agent", directory, port, first.map(|first| ("KILLS_FIRST", first)).as_slice())
}

#[test]
#[ignore = "is started by the other tests here, as the program that they kill"]
fn agent() {
    let Some(options) = options() else { return };
    let directory = PathBuf::from(std::env::var("KILLS_DIRECTORY").unwrap());
    let first: Option<u32> = std::env::var("KILLS_FIRST").ok().map(|first| first.parse().unwrap());
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
    let directory = Directory::new();
    let broker = Broker::start(random.u64(..), move |stream, seen, random| serve(stream, seen, random, forgets));
    let start = Instant::now();
    for life in 0..LIVES {
        let mut agent = start_life(&directory.0, broker.port, Some(life * SHARE));
        thread::sleep(Duration::from_millis(random.u64(20..250)));
        agent.kill().unwrap();
        agent.wait().unwrap();
    }
    let mut agent = start_life(&directory.0, broker.port, None);
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
    let (mut messages, mut repeats) = (0, 0);
    for seed in seeds() {
        let (taken, repeated) = run(seed, forgets);
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
