//! What servers without end cost: bounded memory, counted at the allocator.

#![cfg(feature = "fetch")]
#![allow(unsafe_code, clippy::unwrap_used)]

mod fetch_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fetch_support::{Directory, Peer, Server};
use ioto::fetch::{Client, Error, Options, Response, Timeouts};

/// Counts the bytes that are in use, those of the small servers of these tests too.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static ARMED: AtomicBool = AtomicBool::new(false);
/// One test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn add(bytes: usize) {
    let used = USED.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    if ARMED.load(Ordering::Relaxed) && used < usize::MAX / 2 {
        MOST.fetch_max(used, Ordering::Relaxed);
    }
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs the client, and asserts what it needed at most: bytes and time.
fn bounded<T>(most: usize, work: impl Future<Output = T>) -> T {
    let (start, before) = (Instant::now(), USED.load(Ordering::Relaxed));
    MOST.store(before, Ordering::Relaxed);
    ARMED.store(true, Ordering::Relaxed);
    let result = smol::block_on(work);
    ARMED.store(false, Ordering::Relaxed);
    let needed = MOST.load(Ordering::Relaxed).saturating_sub(before);
    println!("{needed} of {most} bytes");
    assert!(needed <= most, "{needed} bytes");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    result
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sends a head and then the same bytes until the client has gone.
fn endless(head: &'static str, piece: &'static [u8]) -> Server {
    Server::new(move |peer: &mut Peer| {
        peer.head();
        peer.send(head.as_bytes());
        while peer.send(piece) {}
    })
}

async fn drain(mut response: Response, until: u64) -> Result<u64, Error> {
    let (mut buffer, mut total) = (vec![0; 64 * 1024], 0);
    while total < until {
        match response.read(&mut buffer).await? {
            0 => break,
            got => total += got as u64,
        }
    }
    Ok(total)
}

const KB: usize = 1024;

#[test]
fn endless_heads_end_at_their_limit() {
    let _turn = turn();
    for piece in [&b"X-Header: 0123456789abcdef\r\n"[..], &[b'x'; 1000], b"HTTP/1.1 100 Continue\r\n\r\n"] {
        let server = endless(if piece[0] == b'X' { "HTTP/1.1 200 OK\r\n" } else { "" }, piece);
        let error = bounded(200 * KB, Client::default().get(&server.url).send()).unwrap_err();
        assert!(matches!(error, Error::Response { .. }) && error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[test]
fn endless_bodies_take_no_memory_as_streams_and_end_at_the_limit_otherwise() {
    let _turn = turn();
    const PLAIN: &[u8] = &[b'x'; 65536];
    let chunk: &'static [u8] = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat().leak();
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\n\r\n", PLAIN),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", PLAIN),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk),
    ] {
        let server = endless(head, piece);
        let client = Client::default();
        let got = bounded(500 * KB, async { drain(client.get(&server.url).send().await?, 64 << 20).await }).unwrap();
        assert!(got >= 64 << 20);
        let error =
            bounded(1500 * KB, async { client.get(&server.url).send().await?.bytes(500 * KB).await }).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}

#[test]
fn endless_extensions_and_trailers_end() {
    let _turn = turn();
    let chunked = |start: &str| -> &'static str {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{start}").leak()
    };
    for (head, piece) in [
        (chunked("5"), &b";extension=1"[..]),
        (chunked("0\r\n"), b"X-Trailer: 1\r\n"),
        (chunked("0\r\nX-Trailer: "), b"xxxxxxxxxxxxxxx"),
    ] {
        let server = endless(head, piece);
        let request = Client::default().get(&server.url);
        let error = bounded(500 * KB, async { drain(request.send().await?, 1 << 20).await }).unwrap_err();
        assert!(matches!(error, Error::Response { .. }), "{error}");
    }
}

#[test]
fn a_gzip_bomb_is_read_piece_by_piece() {
    let _turn = turn();
    let script = "import gzip, sys\nsys.stdout.buffer.write(gzip.compress(bytes(200000000)))";
    let bomb = Command::new("python3").args(["-c", script]).output().unwrap().stdout;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    let server = Server::answering([head.as_bytes(), &bomb].concat());
    let request = Client::default().get(&server.url).compressed(true);
    let got = bounded(700 * KB, async { drain(request.send().await?, u64::MAX).await }).unwrap();
    assert_eq!(got, 200_000_000);
}

#[test]
fn a_large_file_is_saved_in_little_memory() {
    let _turn = turn();
    const PLAIN: &[u8] = &[b'x'; 65536];
    let server = Server::new(|peer| {
        peer.head();
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
        assert!((0..1600).all(|_| peer.send(PLAIN)));
    });
    let directory = Directory::new();
    let path = directory.0.join("large");
    let saved = bounded(1000 * KB, Client::default().get(&server.url).download(&path).run()).unwrap();
    assert_eq!((saved.length, std::fs::metadata(&path).unwrap().len()), (104_857_600, 104_857_600));
}

#[test]
fn an_upload_takes_no_more_than_a_piece_of_it() {
    let _turn = turn();
    let server = Server::new(|peer| {
        let head = peer.head().unwrap();
        assert!(head.contains("Content-Length: 104857600\n"));
        (0..1600).for_each(|_| drop(peer.exactly(65536)));
        peer.answer(200, "", "");
    });
    let directory = Directory::new();
    let path = directory.write("large", "");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(104_857_600).unwrap();
    let request = Client::default().put(&server.url).body(ioto::fetch::Body::file(path));
    // The server of this test reads pieces into memory as well, and is counted.
    assert_eq!(bounded(1500 * KB, request.send()).unwrap().status(), 200);
}

#[test]
fn events_without_end_are_refused() {
    let _turn = turn();
    let server = endless("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", &[b'x'; 4000]);
    let timeouts = Timeouts { idle: Duration::from_secs(5), ..Timeouts::default() };
    let client = Client::new(Options { timeouts, ..Options::default() });
    let error = bounded(600 * KB, async { client.get(&server.url).events().limit(200 * KB).next().await }).unwrap_err();
    assert!(matches!(error, Error::Event { .. }), "{error}");
}
