//! A TCP proxy that spoils connections: cuts them after any number of bytes in either direction, so that requests
//! arrive in part, or arrive and are carried out while their answer is lost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes connections on to a server and spoils them while [`Faults::set`] says so.
pub struct Faults {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    is_on: AtomicBool,
    random: Mutex<fastrand::Rng>,
    /// Connections that were cut before the server had all, or the client.
    lost_requests: AtomicU64,
    lost_answers: AtomicU64,
}

impl Faults {
    /// In front of `target`, spoiling from the start.
    pub fn new(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the proxy");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target,
            is_on: AtomicBool::new(true),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            lost_requests: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        // Ends with the process: it has nothing that must be cleaned up.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || drop(join(&client, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether new connections are spoiled. Those that stand keep what they were given.
    pub fn set(&self, is_on: bool) {
        self.shared.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Connections that were cut on the way to the server, and on the way back.
    pub fn lost(&self) -> (u64, u64) {
        (self.shared.lost_requests.load(Ordering::Relaxed), self.shared.lost_answers.load(Ordering::Relaxed))
    }
}

/// Passes one connection on. A request has about 1500 bytes, an answer 300 to 900.
fn join(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(shared.target)?;
    let (up, down, stall) = match shared.is_on.load(Ordering::Relaxed) {
        false => (usize::MAX, usize::MAX, 0),
        true => {
            let mut random = shared.random.lock().expect("nobody panics with it");
            match random.bool() {
                true => (random.usize(..8_000), usize::MAX, random.u64(..40)),
                false => (usize::MAX, random.usize(..2_500), random.u64(..40)),
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(client, &server, up, stall, &shared.lost_requests));
        pass(&server, client, down, stall, &shared.lost_answers);
    });
    Ok(())
}

/// Copies until the end or until `left` bytes went through, and then cuts the connection.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut left: usize, stall: u64, lost: &AtomicU64) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        thread::sleep(Duration::from_millis(stall));
        let passed = count.min(left);
        if to.write_all(&buffer[..passed]).is_err() {
            break;
        }
        left -= passed;
        if left == 0 {
            lost.fetch_add(1, Ordering::Relaxed);
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
