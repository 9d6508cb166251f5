//! A program behind the server: raw sockets that do what the test says, right or wrong.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ioto::config::{Proxies, Route, Web};

use crate::web_support::{Dir, Running, field, server, settings};

/// A program that listens on a loopback port until the test ends.
pub struct Program {
    pub address: String,
    /// Connections that were accepted.
    pub connections: Arc<AtomicUsize>,
    /// What came: the heads of all requests.
    pub heads: Arc<Mutex<Vec<String>>>,
}

/// A connection to the program.
pub struct Conn {
    pub stream: TcpStream,
    /// Which connection, and which request on it.
    pub number: usize,
    pub request: usize,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Runs `serve` for each connection, in a thread of its own.
    pub fn start(serve: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, all) = (connections.clone(), heads.clone());
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (serve, heads) = (serve.clone(), all.clone());
                std::thread::spawn(move || serve(&mut Conn { stream, number, request: 0, heads }));
            }
        });
        Self { address, connections, heads }
    }

    /// Answers every request, on kept connections, with what `answer` makes of its head and body.
    pub fn answering(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |conn| {
            while let Some((head, body)) = conn.request() {
                let answer = answer(&head, &body);
                if conn.stream.write_all(&answer).is_err() {
                    return;
                }
            }
        })
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The head of the last request.
    pub fn last(&self) -> String {
        self.heads.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

impl Conn {
    /// The head of the next request.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).unwrap();
        self.heads.lock().unwrap().push(head.clone());
        self.request += 1;
        Some(head)
    }

    /// The next request with its body.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        if let Some(length) = field(&head, "content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).ok()?;
            return Some((head, body));
        }
        let mut body = Vec::new();
        if field(&head, "transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    return Some((head, body));
                }
                body.extend_from_slice(&chunk);
            }
            return None;
        }
        Some((head, body))
    }

    /// The next chunk of a chunked body, empty at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Whether the other side has closed or reset, within `limit`.
    pub fn is_left(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 65536];
        let until = Instant::now() + limit;
        while Instant::now() < until {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
        false
    }
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn route(matches: &str, proxy: &str) -> Route {
    Route { matches: matches.into(), handler: "proxy".into(), proxy: Some(proxy.parse().unwrap()), ..Route::default() }
}

/// A server with a route for everything to the program.
pub fn front(proxy: &str, change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    settings.proxy = Proxies { wait: Duration::from_millis(500), ..Proxies::default() };
    settings.routes = vec![route("", proxy)];
    change(&mut settings);
    (Running::start(server(settings).listen("http://127.0.0.1:0").unwrap()), dir)
}
