//! A server of several threads, and one that runs under an executor's own `block_on`.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ioto::config::Web;
use ioto::web::{Error, Exchange, Server};
use web_support::{Dir, Running, read_response, server, settings, status};

/// A server of `threads` threads, whose action `/thread` tells the one that it runs on.
fn with_threads(threads: usize, change: impl FnOnce(&mut Web)) -> (Server, Dir) {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    settings.threads = threads;
    change(&mut settings);
    let server = server(settings)
        .action("/thread", async |exchange: &mut Exchange| {
            exchange.send("text/plain", format!("{:?}", thread::current().id())).await
        })
        .listen("http://127.0.0.1:0")
        .unwrap();
    (server, dir)
}

fn start(threads: usize, change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let (server, dir) = with_threads(threads, change);
    (Running::start(server), dir)
}

fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    String::from_utf8(read_response(stream).1).unwrap()
}

#[test]
fn every_thread_serves_some_of_the_connections_and_each_its_own() {
    for threads in [1, 3] {
        let (server, dir) = start(threads, |_| ());
        std::fs::write(dir.0.join("page.txt"), "a page").unwrap();
        let mut seen = HashSet::new();
        for _ in 0..60 {
            let mut stream = server.connect();
            let thread = ask(&mut stream, "/thread");
            assert_eq!(ask(&mut stream, "/page.txt"), "a page");
            assert_eq!(ask(&mut stream, "/thread"), thread);
            seen.insert(thread);
        }
        assert_eq!(seen.len(), threads);
    }
}

#[test]
fn a_stop_lets_the_requests_of_all_threads_end() {
    let (server, _dir) = start(2, |_| ());
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut streams {
        write!(stream, "GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    let mut idle = server.connect();
    ask(&mut idle, "/hello");
    let start = Instant::now();
    server.handle.stop();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    for stream in &mut streams {
        assert_eq!(read_response(stream).1, b"slept\n");
    }
    server.join();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn requests_that_do_not_end_are_cut_in_all_threads() {
    let (server, _dir) = with_threads(2, |_| ());
    let server = Running::start(server.drain(Duration::from_millis(300)));
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut streams {
        write!(stream, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    server.handle.stop();
    server.join();
    for stream in &mut streams {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn dropping_the_server_ends_its_threads_at_once() {
    let (server, _dir) = with_threads(3, |_| ());
    let bound = server.bind().unwrap();
    let address = bound.addresses()[0].socket().unwrap();
    let clients = thread::spawn(move || {
        let mut streams: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for stream in &mut streams {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            write!(stream, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        }
        streams.iter_mut().all(|stream| matches!(stream.read(&mut [0]), Ok(0) | Err(_)))
    });
    let executor = smol::LocalExecutor::new();
    let start = Instant::now();
    let time = async {
        smol::Timer::after(Duration::from_millis(400)).await;
    };
    ioto::net::reactor::block_on(executor.run(smol::future::or(bound.run(&executor), time)));
    drop(executor);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(clients.join().unwrap());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_limit_of_connections_is_that_of_all_threads_together() {
    let (server, _dir) = start(2, |web| web.limits.connections = 6);
    let mut busy: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for stream in &mut busy {
        write!(stream, "GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    // Whichever thread they belong to: there is no place before one of the others is answered.
    for _ in 0..4 {
        let mut late = server.connect();
        late.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        write!(late, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert!(late.read(&mut [0]).is_err());
    }
    for stream in &mut busy {
        assert_eq!(read_response(stream).1, b"slept\n");
    }
}

#[test]
fn a_connection_that_waits_makes_room_also_for_one_of_another_thread() {
    let (server, _dir) = start(2, |web| {
        web.limits.connections = 2;
        web.timeouts.idle = Duration::from_secs(60);
    });
    let mut streams = Vec::new();
    // Both places belong to one thread for some of these, and the next connection comes to the other.
    for _ in 0..6 {
        let mut stream = server.connect();
        write!(stream, "GET /thread HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(status(&read_response(&mut stream).0), 200);
        streams.push(stream);
        thread::sleep(Duration::from_millis(1100));
    }
}

#[test]
fn another_server_cannot_listen_beside_one_of_several_threads() {
    let (server, _dir) = start(2, |_| ());
    let url = format!("http://{}", server.address());
    for threads in [1, 2] {
        let other = Web { listen: vec![], threads, ..Web::default() };
        let refused = Server::new(other).listen(&url).unwrap().bind();
        assert!(matches!(refused, Err(Error::AddressInUse { .. })));
    }
}

#[test]
fn a_unix_socket_is_served_by_the_first_thread() {
    let (server, dir) = with_threads(2, |_| ());
    let path = dir.0.join("socket");
    let server = Running::start(server.listen(&format!("unix:{}", path.display())).unwrap());
    for _ in 0..8 {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        write!(stream, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream).1, b"hello\n");
    }
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_server_works_also_under_smols_own_block_on() {
    let (server, dir) = with_threads(1, |web| web.timeouts.idle = Duration::from_millis(600));
    std::fs::write(dir.0.join("big.bin"), vec![b'x'; 3_000_000]).unwrap();
    let server = Running::start_under(server, |future| smol::block_on(future));
    let mut streams: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            assert_eq!(ask(stream, "/hello"), "hello\n");
        }
    }
    assert_eq!(ask(&mut streams[0], "/big.bin").len(), 3_000_000);
    assert_eq!(ask(&mut streams[0], "/sleep"), "slept\n");
    // The deadlines are kept too.
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(status(&web_support::get(&server, "/none", "")), 404);
}
