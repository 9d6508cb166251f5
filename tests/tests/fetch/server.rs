//! A server that remembers what it was asked, and answers by the path.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use ioto_tests::program;

/// What `/data` is: 10,000 bytes, each different from its neighbours.
pub fn data() -> Vec<u8> {
    (0..10_000u32).map(|at| (at * 7 % 251) as u8).collect()
}

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// It serves until the test ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let address = listener.local_addr().expect("it has an address");
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let (all, count) = (Arc::clone(&seen), Arc::clone(&connections));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let all = Arc::clone(&all);
                thread::spawn(move || drop(serve(&client, &all)));
            }
        });
        Self { address, seen, connections }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("nobody panicked"))
    }

    /// The connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(client: &TcpStream, all: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut writer = client;
    loop {
        let Some(seen) = read(&mut reader, &mut writer)? else { return Ok(()) };
        all.lock().expect("nobody panicked").push(seen.clone());
        if !answer(&seen, all, &mut writer)? {
            return Ok(());
        }
    }
}

fn read(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut seen = Seen { method, target, ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((name, value)) => seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
        }
    }
    if seen.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    match (seen.header("transfer-encoding"), seen.header("content-length")) {
        (Some(_), _) => loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            seen.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        },
        (None, Some(length)) => {
            seen.body.resize(length.parse().map_err(|_| io::ErrorKind::InvalidData)?, 0);
            reader.read_exact(&mut seen.body)?;
        }
        (None, None) => {}
    }
    Ok(Some(seen))
}

/// Whether the connection stays.
fn answer(seen: &Seen, all: &Mutex<Vec<Seen>>, writer: &mut impl Write) -> io::Result<bool> {
    let (path, _) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let (status, extra, body): (&str, String, Vec<u8>) = match path {
        "/data" => match seen.header("range").and_then(|range| range.strip_prefix("bytes=")) {
            None => ("200 OK", String::new(), data()),
            Some(range) => {
                let (first, last) = range.split_once('-').unwrap_or((range, ""));
                let (first, size) = (first.parse().unwrap_or(0), data().len());
                let last: usize = last.parse().unwrap_or(size - 1).min(size - 1);
                match first < size {
                    true => {
                        let range = format!("Content-Range: bytes {first}-{last}/{size}\r\n");
                        ("206 Partial Content", range, data()[first..=last].to_vec())
                    }
                    false => ("416 Range Not Satisfiable", format!("Content-Range: bytes */{size}\r\n"), Vec::new()),
                }
            }
        },
        "/whole" => ("200 OK", String::new(), data()),
        "/redirect" => ("302 Found", "Location: /text\r\n".into(), b"over there".to_vec()),
        "/see-other" => ("303 See Other", "Location: /text\r\n".into(), Vec::new()),
        "/keep-method" => ("307 Temporary Redirect", "Location: /text\r\n".into(), Vec::new()),
        "/loop" => ("302 Found", "Location: /loop\r\n".into(), Vec::new()),
        "/missing" => ("404 Not Found", String::new(), b"nothing here\n".to_vec()),
        "/broken" => ("500 Internal Server Error", String::new(), b"oh\n".to_vec()),
        "/empty" => ("204 No Content", String::new(), Vec::new()),
        "/cut" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")?;
            return Ok(false);
        }
        "/silent" => return Ok(false),
        "/garbage" => {
            writer.write_all(b"SMTP ready\r\n\r\n")?;
            return Ok(false);
        }
        "/compressed" if seen.header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip")) => {
            ("200 OK", "Content-Encoding: gzip\r\n".into(), gzip(&data()))
        }
        "/compressed" => ("200 OK", String::new(), data()),
        "/damaged" => {
            let mut damaged = gzip(&data());
            damaged[1000..1010].fill(0);
            ("200 OK", "Content-Encoding: gzip\r\n".into(), damaged)
        }
        "/flaky" if all.lock().expect("nobody panicked").len() % 2 == 1 => {
            ("503 Service Unavailable", String::new(), b"later\n".to_vec())
        }
        "/slow" => {
            thread::sleep(std::time::Duration::from_secs(5));
            return Ok(false);
        }
        _ => ("200 OK", "Content-Type: text/plain\r\nX-Two: a\r\nX-Two: b\r\n".into(), b"hello\n".to_vec()),
    };
    let mut head = format!("HTTP/1.1 {status}\r\n{extra}");
    if !status.starts_with("204") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    writer.write_all(format!("{head}\r\n").as_bytes())?;
    if seen.method != "HEAD" {
        writer.write_all(&body)?;
    }
    Ok(true)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start gzip");
    child.stdin.take().expect("it is piped").write_all(bytes).expect("write to gzip");
    child.wait_with_output().expect("wait for gzip").stdout
}

/// `ioto fetch` in a directory, without an environment.
pub fn ioto(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().expect("start ioto")
}

pub fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("ioto"));
    command.arg("fetch").args(arguments).env_clear().current_dir(directory);
    command
}
