//! A web server on a free loopback port in a thread of its own, with the actions that tests need; and clients: raw bytes,
//! curl.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use ioto::config::{Web, WebTimeouts};
use ioto::web::{Address, Error, Exchange, Handle, Peer, Server};
use serde_json::json;
use smol::io::{AsyncReadExt, AsyncWriteExt};

pub const MEGABYTE: usize = 1 << 20;

/// A server that runs until it is dropped.
pub struct Running {
    pub addresses: Vec<Address>,
    pub handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(server: Server) -> Self {
        Self::start_under(server, |future| ioto::net::reactor::block_on(future))
    }

    /// Runs the server's future by `block_on`.
    pub fn start_under(server: Server, block_on: fn(Pin<Box<dyn Future<Output = ()> + '_>>)) -> Self {
        let bound = server.bind().expect("the server listens");
        let (addresses, handle) = (bound.addresses().to_vec(), bound.handle());
        let thread = std::thread::spawn(move || {
            let executor = smol::LocalExecutor::new();
            block_on(Box::pin(executor.run(bound.run(&executor))));
        });
        Self { addresses, handle, thread: Some(thread) }
    }

    /// The first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].socket().expect("a TCP address")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes and returns everything that comes until the server closes.
    pub fn talk(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(request.as_ref());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_to_close(&mut stream)
    }

    /// Waits until the server has ended.
    pub fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Everything until the connection ends, also when it is reset.
pub fn read_to_close(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut buf = [0; 65536];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buf[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("nothing for too long: {error}; got {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One response with a Content-Length from a connection that stays open: head and body.
pub fn read_response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a response head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = field(&head, "content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a response body");
    (head, body)
}

/// A header field of a response.
pub fn field(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

pub fn status(response: &str) -> u16 {
    response.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Settings for tests: nothing listens yet, timers that a busy machine does not reach.
pub fn settings(documents: PathBuf) -> Web {
    let timer = Duration::from_secs(5);
    let timeouts = WebTimeouts { parse: timer, inactivity: timer, idle: timer, request: timer * 4, tls: timer / 2 };
    Web { listen: vec![], documents, timeouts, ..Web::default() }
}

/// A directory that is removed with its value.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-web-{}-{:x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every action that the tests need.
pub fn server(settings: Web) -> Server {
    Server::new(settings)
        .action("/hello", async |exchange: &mut Exchange| exchange.send("text/plain", "hello\n").await)
        .action("/show/", async |exchange: &mut Exchange| {
            let value = json!({
                "method": exchange.method().as_str(),
                "path": exchange.path(),
                "rest": exchange.rest(),
                "name": exchange.query("name"),
                "secure": exchange.secure(),
                "unix": exchange.peer() == Peer::Unix,
            });
            exchange.send_json(&value).await
        })
        .action("/json", async |exchange: &mut Exchange| {
            let value = exchange.json().await?;
            exchange.set_status(201);
            exchange.set_header("X-Mine", "yes")?;
            exchange.send_json(&value).await
        })
        .action("/count", async |exchange: &mut Exchange| {
            let (mut body, mut buf, mut count) = (exchange.body(), vec![0; 16 * 1024], 0);
            loop {
                match body.read(&mut buf).await? {
                    0 => break,
                    read => count += read,
                }
            }
            exchange.send("text/plain", format!("{count}\n")).await
        })
        .action("/big", async |exchange: &mut Exchange| {
            let megabytes: usize = exchange.query("mb").and_then(|text| text.parse().ok()).unwrap_or(1);
            let block = vec![b'x'; 64 * 1024];
            let mut out = exchange.stream("application/octet-stream")?;
            for _ in 0..megabytes * 16 {
                out.write_all(&block).await?;
            }
            out.finish().await
        })
        .action("/echo", async |exchange: &mut Exchange| {
            let mut out = exchange.stream("application/octet-stream")?;
            smol::io::copy(exchange.body(), &mut out).await?;
            out.finish().await
        })
        .action("/fail", async |_: &mut Exchange| Err(Error::failed("the sensor burned down")))
        .action("/late", async |exchange: &mut Exchange| {
            let mut out = exchange.stream("text/plain")?;
            out.write_all(b"half of it").await?;
            out.flush().await?;
            Err(Error::failed("broken"))
        })
        .action("/refuse", async |_: &mut Exchange| Err(Error::status(409, "not now")))
        .action("/nothing", async |exchange: &mut Exchange| {
            exchange.set_status(202);
            Ok(())
        })
        .action("/split", async |exchange: &mut Exchange| exchange.set_header("X", "a\r\nSet-Cookie: b"))
        .action("/sleep", async |exchange: &mut Exchange| {
            smol::Timer::after(Duration::from_millis(1500)).await;
            exchange.send("text/plain", "slept\n").await
        })
        .action("/hang", async |_: &mut Exchange| std::future::pending().await)
}

/// A server for files and actions on a free port.
pub fn start(change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    change(&mut settings);
    (Running::start(server(settings).listen("http://127.0.0.1:0").unwrap()), dir)
}

pub fn get(server: &Running, path: &str, fields: &str) -> String {
    server.talk(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
}

pub fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output().expect("curl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
