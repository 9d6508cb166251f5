//! The outbox on a file system that is really full, and a process that is killed there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ioto::mqtt::{self, Message, QoS, Wait};
use smol::Timer;

use super::{Broker, Directory, LONG, PUBACK, PUBCOMP, PUBREC, PUBREL, options, start_agent, take_packet};

/// The file system, of which the outbox leaves 2 MiB free.
const DISK: &str = "6m";
/// Bytes of a message, one disk each; every other message is of QoS 2.
const SIZES: [u32; 3] = [1000, 8000, 60_000];

#[test]
fn a_full_disk_refuses_messages_in_words_and_loses_none_that_it_has() {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        println!("skipped: needs root, for a file system of its own");
        return;
    }
    thread::scope(|scope| SIZES.iter().for_each(|size| drop(scope.spawn(|| on_a_disk_of_its_own(*size)))));
}

fn on_a_disk_of_its_own(size: u32) {
    let directory = Directory::new();
    fs::create_dir(directory.0.join("disk")).unwrap();
    let script = "mount --make-rprivate / && mount -t tmpfs -o size=$2 tmpfs \"$1\" || exit 77
        exec \"$0\" full_disk::on_a_small_disk --ignored --exact --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]);
    command.arg(std::env::current_exe().unwrap()).arg(directory.0.join("disk")).arg(DISK);
    command.env("FULL_DIRECTORY", &directory.0).env("FULL_SIZE", size.to_string());
    match command.status().map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77)) | Err(_) => println!("skipped: no file system of our own can be mounted here"),
        other => panic!("{other:?}"),
    }
}

/// What the broker saw.
#[derive(Default)]
struct Seen {
    is_open: bool,
    taken: Vec<u32>,
    /// The packet id of a message of QoS 2 whose PUBREL has not come.
    open: Vec<u16>,
    /// The agent has the message that the broker has for it.
    is_delivered: bool,
}

fn serve(stream: &mut TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONG))?;
    let mut buffer = Vec::new();
    while seen.lock().unwrap().is_open {
        let mut bytes = [0; 65_536];
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&bytes[..count]);
        while let Some((first, body)) = take_packet(&mut buffer) {
            let answer = answer(first, &body, &mut seen.lock().unwrap());
            stream.write_all(&answer)?;
        }
    }
    Ok(())
}

fn answer(first: u8, body: &[u8], seen: &mut Seen) -> Vec<u8> {
    let id_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first & 0xf0 {
        0x10 if seen.is_delivered => vec![0x20, 2, 1, 0],
        0x10 => vec![0x20, 2, 1, 0, 0x3c, 5, 0, 1, b'x', 0, 7],
        0x30 => {
            let topic = usize::from(id_at(0));
            let id = id_at(2 + topic);
            let number = u32::from_be_bytes(body[4 + topic..8 + topic].try_into().unwrap());
            assert_eq!(body.len(), 4 + topic + size());
            if !seen.open.contains(&id) {
                seen.taken.push(number);
            }
            if first & 6 == 4 {
                seen.open.push(id);
            }
            vec![if first & 6 == 4 { PUBREC } else { PUBACK }, 2, body[2 + topic], body[3 + topic]]
        }
        0x60 => {
            seen.open.retain(|id| *id != id_at(0));
            vec![PUBCOMP, 2, body[0], body[1]]
        }
        PUBREC => vec![PUBREL, 2, body[0], body[1]],
        PUBCOMP => {
            seen.is_delivered |= id_at(0) == 7;
            Vec::new()
        }
        0xc0 => vec![0xd0, 0],
        _ => Vec::new(),
    }
}

fn size() -> usize {
    std::env::var("FULL_SIZE").unwrap().parse().unwrap()
}

#[test]
#[ignore = "is started by the test above, where the disk is small"]
fn on_a_small_disk() {
    let Some(directory) = std::env::var_os("FULL_DIRECTORY").map(PathBuf::from) else { return };
    let disk = directory.join("disk");
    let broker = Broker::start(1, |stream: &mut TcpStream, seen: &Mutex<Seen>, _: &mut Rng| serve(stream, seen));
    let start = |publishes| {
        let variables = [("FULL_PUBLISHES", publishes), ("FULL_SIZE", size() as u32)];
        Agent(start_agent("full_disk::agent", &disk, broker.port, &variables))
    };

    let agent = start(1);
    let refusals = wait_for("refusal", || fs::read_to_string(disk.join("refused")).ok().filter(|text| text.len() > 9));
    assert!(refusals.contains("no room on the disk"), "{refusals}");
    agent.kill();
    let free = rustix::fs::statvfs(&disk).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
    assert!(free >= 512 * 1024, "only {free} bytes were left");
    let kept = fs::metadata(disk.join("kept")).unwrap().len() as u32;
    let bytes = kept as usize * size();
    assert!((1 << 20..4 << 20).contains(&bytes), "{kept} messages of {} bytes", size());

    fill(&disk);
    broker.seen.lock().unwrap().is_open = true;
    let agent = start(0);
    thread::sleep(Duration::from_secs(2));
    let time = cpu_time(&agent);
    agent.kill();
    assert!(time < Duration::from_millis(700), "busy while nothing can be done: {time:?}");

    let mut agent = start(0);
    thread::sleep(Duration::from_millis(500));
    agent.check_lives();
    fs::remove_file(disk.join("fill")).unwrap();
    let has_all = |seen: &Seen| seen.is_delivered && seen.open.is_empty() && seen.taken.contains(&(kept - 1));
    wait_for("end of it", || has_all(&broker.seen.lock().unwrap()).then_some(()));
    fs::write(disk.join("over"), "").unwrap();
    let status = wait_for("end of the last agent", || agent.0.try_wait().unwrap());
    assert!(status.success());
    let seen = broker.seen.lock().unwrap();
    let mut known = HashSet::new();
    let (firsts, again): (Vec<u32>, Vec<u32>) = seen.taken.iter().partition(|number| known.insert(**number));
    assert!(firsts.iter().copied().eq(0..kept), "lost or out of order: {firsts:?}");
    // A message of QoS 1 may come again after the kill.
    assert!(again.iter().all(|number| number % 2 == 1), "taken twice: {again:?}");
    println!("{kept} messages of {} bytes on a disk of {DISK}, {time:?} of CPU in 2 s without room", size());
}

/// Publishes until the disk is full and goes on trying, or ends when everything is sent.
#[test]
#[ignore = "is started by the other tests here, as the program that they kill"]
fn agent() {
    let Some(options) = options() else { return };
    let disk = PathBuf::from(std::env::var("KILLS_DIRECTORY").unwrap());
    let publishes = std::env::var("FULL_PUBLISHES").unwrap() == "1";
    let (client, connection) = mqtt::open(options.queue(100_000)).unwrap();
    let executor = smol::LocalExecutor::new();
    let running = executor.spawn(connection.run());
    smol::block_on(executor.run(async {
        if !publishes {
            let state = || client.state();
            while state().queued + state().in_flight > 0 || !disk.join("over").exists() {
                Timer::after(Duration::from_millis(5)).await;
            }
            client.close();
            return running.await;
        }
        let mut kept = File::create(disk.join("kept")).unwrap();
        for number in 0_u32.. {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(size(), 0);
            let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            match client.send(Message::new("full", payload, qos)).durable(true).wait(Wait::None).await {
                Ok(()) => kept.write_all(b".").unwrap(),
                Err(error) => {
                    fs::write(disk.join("refused"), error.to_string()).unwrap();
                    break;
                }
            }
        }
        running.await;
    }));
}

/// Another program takes what is left of the disk.
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("fill")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    assert!(fs::write(disk.join("one"), [0; 4096]).is_err(), "the disk is not full");
}

/// A process that does not outlive the test.
struct Agent(Child);

impl Agent {
    fn kill(mut self) {
        self.check_lives();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn check_lives(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it ended by itself");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cpu_time(Agent(agent): &Agent) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap().split(' ').filter_map(|field| field.parse().ok()).collect();
    // After state, which is no number: ppid is the first, utime the 11th, stime the 12th; in ticks of 10 ms.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < LONG, "no {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
