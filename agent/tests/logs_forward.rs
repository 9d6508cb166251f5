//! Logs are forwarded: whatever fails on the way, every record arrives, and none twice for who compares ids.
#![cfg(all(feature = "logs", feature = "web"))]
#![allow(clippy::unwrap_used)]

#[path = "logs/receiver.rs"]
mod receiver;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use ioto::config::{Logs, LogsSpool, SinkKind, SinkUrl};
use ioto::logs::{Batch, Ending, Figures, Input, Next, Places, Record, Source, forward, sink};
use receiver::{Fault, Message, Receiver};
use smol::Timer;

const LONG: Duration = Duration::from_secs(60);

/// A log with so many lines, which fails now and then.
struct Lines {
    name: &'static str,
    at: usize,
    total: usize,
    random: fastrand::Rng,
    fails: bool,
}

fn text(name: &str, line: usize) -> String {
    format!("{name} line {line} {}", "x".repeat(line * 7919 % 200))
}

impl Source for Lines {
    fn name(&self) -> &str {
        self.name
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(async {
            Timer::after(Duration::from_micros(self.random.u64(..2000))).await;
            if self.fails && self.random.u8(..100) == 0 {
                return Err(io::Error::other("out of luck"));
            }
            if self.at == self.total {
                std::future::pending::<()>().await;
            }
            let end = (self.at + self.random.usize(1..100)).min(self.total);
            let record = |line| Record {
                at: 1_700_000_000_000_000 + line as i64,
                severity: 6,
                facility: 1,
                identifier: self.name.into(),
                unit: Some(format!("{}.service", self.name)),
                pid: Some(line as u32 + 1),
                boot: None,
                text: text(self.name, line),
            };
            let records = (self.at..end).map(record).collect();
            self.at = end;
            Ok(Batch { records, position: end.to_string() })
        })
    }
}

#[derive(Clone)]
struct End(smol::channel::Receiver<()>);

impl Ending for End {
    async fn wished(&self) {
        let _ = self.0.recv().await;
    }
}

/// A forwarder on a thread of its own.
struct Forwarder {
    settings: Logs,
    directory: PathBuf,
    names: Vec<&'static str>,
    total: usize,
    fails: bool,
    figures: Figures,
    running: Option<(smol::channel::Sender<()>, smol::channel::Sender<()>, thread::JoinHandle<bool>)>,
}

impl Forwarder {
    fn new(kind: SinkKind, port: u16, names: &[&'static str], total: usize) -> Self {
        let directory = env::temp_dir().join(format!("ioto-forward-{:x}", fastrand::u64(..)));
        fs::create_dir_all(&directory).unwrap();
        let settings = Logs {
            sink: Some(SinkUrl { kind, host: "127.0.0.1".into(), port }),
            linger: Duration::from_millis(20),
            timeout: Duration::from_secs(2),
            ..Logs::default()
        };
        let figures = Figures::default();
        Self { settings, directory, names: names.to_vec(), total, fails: false, figures, running: None }
    }

    fn places(&self) -> Places {
        Places::new(&self.directory, &self.directory)
    }

    fn start(&mut self) {
        let (stopper, stop) = smol::channel::bounded(1);
        let (killer, kill) = smol::channel::bounded::<()>(1);
        self.figures = Figures::default();
        let (settings, places, figures) = (self.settings.clone(), self.places(), self.figures.clone());
        let (names, total, fails) = (self.names.clone(), self.total, self.fails);
        let seed = fastrand::u64(..);
        let thread = thread::spawn(move || {
            let run = async {
                // The file is busy until a killed one's last write is over.
                let began = Instant::now();
                loop {
                    let inputs = names.iter().map(|&name| {
                        // Opened again, it has other luck: with the same it might fail at the same line for ever.
                        let luck = RefCell::new(fastrand::Rng::with_seed(seed));
                        Input::new(name, move |position| -> Box<dyn Source> {
                            let at = position.map_or(0, |position| position.parse().unwrap());
                            Box::new(Lines { name, at, total, random: luck.borrow_mut().fork(), fails })
                        })
                    });
                    let inputs = inputs.collect();
                    let sink = sink::open(&settings, "device").unwrap().unwrap();
                    match forward(&settings, &places, inputs, sink, figures.clone(), End(stop.clone())).await {
                        Ok(()) => return true,
                        Err(error) if error.to_string().contains("locked") && began.elapsed() < LONG => {}
                        Err(error) => panic!("{error}"),
                    }
                    Timer::after(Duration::from_millis(5)).await;
                }
            };
            let killed = async {
                let _ = kill.recv().await;
                false
            };
            smol::block_on(smol::future::or(killed, run))
        });
        self.running = Some((stopper, killer, thread));
    }

    /// Ends in order.
    fn stop(&mut self) {
        let (stopper, _killer, thread) = self.running.take().unwrap();
        stopper.close();
        assert!(thread.join().unwrap());
    }

    /// Ends without any order: what it was about to do is not done.
    fn kill(&mut self) {
        let (_stopper, killer, thread) = self.running.take().unwrap();
        killer.close();
        thread.join().unwrap();
    }

    fn figure(&self, name: &str) -> u64 {
        self.figures.to_json()[name].as_u64().unwrap_or(0)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Every line of every source is there, once for who compares ids; returns how often ids were repeated.
fn check(messages: &[Message], names: &[&str], total: usize) -> usize {
    let mut found = BTreeMap::new();
    let mut repeats = 0;
    for message in messages {
        match found.insert(message.id().to_owned(), message) {
            Some(before) => {
                assert_eq!(before, message);
                repeats += 1;
            }
            None => {
                let line: usize = message.text.split(' ').nth(2).unwrap().parse().unwrap();
                let source = &message.parameters["source"];
                assert_eq!(message.text, text(source, line));
                assert_eq!(message.parameters["seq"], (line + 1).to_string());
                assert_eq!(message.process, (line + 1).to_string());
                assert_eq!((message.priority, message.host.as_str(), &message.app), (14, "device", source));
                assert_eq!(message.parameters["unit"], format!("{source}.service"));
            }
        }
    }
    let texts: HashSet<_> = found.values().map(|message| message.text.as_str()).collect();
    assert_eq!((texts.len(), found.len()), (names.len() * total, names.len() * total));
    for name in names {
        assert!((0..total).all(|line| texts.contains(text(name, line).as_str())));
    }
    repeats
}

fn seed() -> u64 {
    let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    fastrand::seed(seed);
    seed
}

#[test]
fn without_kills_and_resets_nothing_is_sent_twice_over_restarts_and_closed_connections() {
    seed();
    let names = ["journal", "files", "kernel"];
    let mut receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &names, 3000);
    forwarder.fails = true;
    for stop in 1..5 {
        forwarder.start();
        receiver.wait(stop * 1500, LONG);
        forwarder.stop();
        if stop == 3 {
            receiver.stop();
            forwarder.start();
            thread::sleep(Duration::from_millis(500));
            receiver.start();
            receiver.wait(stop * 1500 + 200, LONG);
            forwarder.stop();
        }
    }
    forwarder.start();
    receiver.wait(9000, LONG);
    assert_eq!(check(&receiver.messages(), &names, 3000), 0);
    // All of it is confirmed by the receiver's own close.
    forwarder.stop();
    assert_eq!((forwarder.figure("waiting"), forwarder.figure("spooled")), (0, 0));
}

#[test]
fn a_receiver_that_closes_in_order_gets_nothing_again() {
    seed();
    let mut receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &["files"], 500);
    for round in 1..5 {
        // It closes when it has all that there is, as one that is restarted.
        receiver.fault(Fault::Close(500));
        forwarder.total = round * 500;
        forwarder.start();
        receiver.wait(round * 500, LONG);
        thread::sleep(Duration::from_millis(100));
        forwarder.stop();
    }
    assert_eq!(check(&receiver.messages(), &["files"], 2000), 0);
    receiver.stop();
}

/// A line has 230 bytes and more in its frame.
const FRAME: usize = 230;
/// What is underway at a time.
const CHUNK: usize = 64 << 10;

#[test]
fn a_receiver_that_breaks_and_stalls_loses_nothing_and_gets_again_what_it_may_not_have_read() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (names, total, resend) = (["journal", "files"], 8000, 256 << 10);
    let receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &names, total);
    (forwarder.settings.resend, forwarder.fails) = (resend, true);
    forwarder.settings.timeout = Duration::from_secs(1);
    for _ in 0..8 {
        let after = random.usize(1..1500);
        receiver.fault(match random.u8(..5) {
            0 => Fault::Close(after),
            1 => Fault::Stall(after, random.u64(..1500)),
            _ => Fault::Reset(after),
        });
    }
    forwarder.start();
    receiver.wait(total * 2, LONG * 2);
    let repeats = check(&receiver.messages(), &names, total);
    let breaks = receiver.breaks();
    let bound = (breaks * (resend + CHUNK) + 8 * CHUNK) / FRAME;
    println!("{} records, {breaks} breaks: {repeats} repeats, at most {bound}", total * 2);
    assert!(repeats <= bound, "{repeats} repeats");
}

#[test]
fn kills_lose_nothing_and_repeat_no_more_than_was_underway() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (names, total, kills) = (["journal", "files"], 8000, 25);
    let receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &names, total);
    // What was acknowledged counts as read.
    (forwarder.settings.resend, forwarder.fails) = (0, true);
    for _ in 0..kills {
        receiver.fault(Fault::Pause(random.usize(1..500), random.u64(..300)));
        forwarder.start();
        thread::sleep(Duration::from_millis(random.u64(1..300)));
        forwarder.kill();
    }
    forwarder.start();
    receiver.wait(total * 2, LONG * 2);
    let repeats = check(&receiver.messages(), &names, total);
    let bound = kills * CHUNK / FRAME;
    println!("{} records, {kills} kills: {repeats} repeats, at most {bound}", total * 2);
    assert!(repeats <= bound, "{repeats} repeats");
}

/// The receiver's kernel acknowledged what the receiver never read, and who would have to send it again is killed meanwhile.
#[test]
fn kills_at_the_moment_the_receiver_breaks_lose_nothing_either() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (names, total, kills) = (["journal", "files"], 12_000, 25);
    let receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &names, total);
    forwarder.fails = true;
    for _ in 0..kills {
        let breaks = receiver.breaks();
        receiver.fault(Fault::Reset(random.usize(1..1000)));
        forwarder.start();
        let began = Instant::now();
        while receiver.breaks() == breaks && began.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(random.u64(..30)));
        forwarder.kill();
    }
    forwarder.start();
    let began = Instant::now();
    while receiver.distinct() < total * 2 && began.elapsed() < LONG {
        thread::sleep(Duration::from_millis(50));
    }
    let messages = receiver.messages();
    let texts: HashSet<_> = messages.iter().map(|message| message.text.as_str()).collect();
    let all = names.iter().flat_map(|name| (0..total).map(move |line| text(name, line)));
    let missing: Vec<_> = all.filter(|text| !texts.contains(text.as_str())).collect();
    let unread: HashSet<_> = receiver.unread.lock().unwrap().iter().map(|message| message.text.clone()).collect();
    let explained = missing.iter().filter(|text| unread.contains(*text)).count();
    let (breaks, repeats) = (receiver.breaks(), messages.len() - texts.len());
    println!(
        "{} records, {kills} kills, {breaks} breaks with {} records unread: {repeats} repeats, {} missing, {explained} of \
         them unread by the receiver when it broke",
        total * 2,
        unread.len(),
        missing.len()
    );
    assert_eq!(missing.len(), 0);
    check(&messages, &names, total);
}

#[test]
fn a_full_spool_makes_the_sources_wait_and_nothing_is_lost() {
    seed();
    let mut receiver = Receiver::new();
    receiver.stop();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &["files"], 20_000);
    forwarder.settings.spool = LogsSpool { size: 1 << 20, drop: false };
    forwarder.start();
    let began = Instant::now();
    while forwarder.figures.to_json()["full"] != true {
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    assert!(forwarder.figure("spooledBytes") <= 1 << 20);
    assert!(forwarder.figure("read") < 20_000);
    let size = fs::metadata(forwarder.places().spool).unwrap().len();
    assert!(size < 2 << 20, "{size}");
    forwarder.kill();
    receiver.start();
    forwarder.start();
    receiver.wait(20_000, LONG);
    assert_eq!(check(&receiver.messages(), &["files"], 20_000), 0);
    forwarder.stop();
}

#[test]
fn a_spool_that_drops_the_oldest_counts_them() {
    seed();
    let mut receiver = Receiver::new();
    receiver.stop();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &["files"], 20_000);
    forwarder.settings.spool = LogsSpool { size: 1 << 20, drop: true };
    forwarder.start();
    let began = Instant::now();
    while forwarder.figure("read") < 20_000 || forwarder.figure("waiting") + forwarder.figure("dropped") < 20_000 {
        assert!(began.elapsed() < LONG, "{:?}", forwarder.figures.to_json());
        thread::sleep(Duration::from_millis(10));
    }
    let dropped = forwarder.figure("dropped") as usize;
    assert!(dropped > 1000);
    receiver.start();
    receiver.wait(20_000 - dropped, LONG);
    let messages = receiver.messages();
    // What is left is the newest, without a gap; a chunk that was taken out to be sent before is there beside.
    assert_eq!(messages.last().unwrap().parameters["seq"], "20000");
    println!("{dropped} dropped, {} arrived", messages.len());
    forwarder.stop();
}

#[test]
fn a_power_cut_repeats_ids_and_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(seed());
    let total = 6000;
    let receiver = Receiver::new();
    let mut forwarder = Forwarder::new(SinkKind::SyslogTcp, receiver.address.port(), &["files"], total);
    for cut in 1..6 {
        let spool = forwarder.places().spool;
        let before = fs::read(&spool).unwrap_or_default();
        forwarder.start();
        receiver.wait(cut * 1000, LONG);
        forwarder.kill();
        // The last transactions did not reach the disk; what is in the run directory never does. What was copied into the
        // database is on the disk for certain: SQLite syncs before it copies (a new database is copied as it is made).
        let copied = !before.is_empty() && fs::read(&spool).unwrap() != before;
        let wal = PathBuf::from(format!("{}-wal", spool.display()));
        if let (Ok(bytes), false) = (fs::read(&wal), copied) {
            fs::write(&wal, &bytes[..random.usize(..=bytes.len())]).unwrap();
        }
        fs::remove_file(forwarder.places().marker).unwrap();
    }
    forwarder.start();
    receiver.wait(total, LONG);
    let repeats = check(&receiver.messages(), &["files"], total);
    println!("{total} records, 5 power cuts: {repeats} repeats");
    forwarder.stop();
}

#[test]
fn tls_carries_the_same() {
    seed();
    let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = key.cert.der().clone();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .unwrap();
    let server = Arc::new(server);
    let mut receiver = Receiver::wrapped(Arc::new(move |stream| {
        let connection = rustls::ServerConnection::new(server.clone()).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    }));
    let mut forwarder = Forwarder::new(SinkKind::SyslogTls, receiver.address.port(), &["files"], 6000);
    let authority = forwarder.directory.join("authority.pem");
    let body = ioto::net::base64::encode(key.cert.der());
    fs::write(&authority, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")).unwrap();
    forwarder.settings.authority = Some(authority);
    forwarder.start();
    receiver.wait(3000, LONG);
    forwarder.stop();
    forwarder.start();
    receiver.wait(6000, LONG);
    assert_eq!(check(&receiver.messages(), &["files"], 6000), 0);
    forwarder.kill();
    receiver.stop();

    // Whom nobody trusts gets nothing.
    forwarder.total = 6100;
    forwarder.settings.authority =
        Some("/etc/ssl/certs/ca-certificates.crt".into()).filter(|file: &PathBuf| file.exists());
    receiver.start();
    if forwarder.settings.authority.is_some() {
        forwarder.start();
        let began = Instant::now();
        while forwarder.figures.to_json()["sink"] == "ok" {
            assert!(began.elapsed() < LONG);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(receiver.count(), 6000);
    }
}

#[test]
fn datagrams_are_lines_of_rfc_3164() {
    seed();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut forwarder = Forwarder::new(SinkKind::SyslogUdp, socket.local_addr().unwrap().port(), &["files"], 50);
    forwarder.start();
    let mut buffer = [0; 2048];
    for line in 0..50 {
        let length = socket.recv(&mut buffer).unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        assert_eq!(message, format!("<14>Nov 14 22:13:20 device files[{}]: {}", line + 1, text("files", line)));
    }
    forwarder.stop();
    assert_eq!(forwarder.figure("sent"), 50);
}
