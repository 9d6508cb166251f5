//! A service in another time: what a device with a wrong clock sees.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ioto::net::{amz_date, http_date};

/// How far the time of a signature may be off.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Stands before a server and claims that it is later than it is: a signature of another time is refused, as AWS does and
/// moto does not. It answers one request on each connection.
#[derive(Debug)]
pub struct Ahead {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Ahead {
    /// Before `server`, by so much ahead of this machine. It serves until the test ends.
    pub fn new(server: SocketAddr, by: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let address = listener.local_addr().expect("it has an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A client that goes away ends its own request only.
                thread::spawn(move || drop(serve(client, server, by, &counter)));
            }
        });
        Self { address, requests }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came, those refused among them.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, by: Duration, counter: &AtomicUsize) -> io::Result<()> {
    let request = read_request(&mut client)?;
    counter.fetch_add(1, Ordering::SeqCst);
    let now = SystemTime::now() + by;
    let answer = match signed_at(&request).is_some_and(|date| is_about(&date, now)) {
        true => forward(&request, server)?,
        false => refusal(),
    };
    client.write_all(&dated(&answer, now))
}

/// A request as it came.
struct Request {
    head: Vec<String>,
    body: Vec<u8>,
}

fn read_request(client: &mut TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(client);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut request = Request { head, body: Vec::new() };
    let length: usize = request.field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

impl Request {
    fn field(&self, wanted: &str) -> Option<&str> {
        let fields = self.head.iter().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    }
}

fn signed_at(request: &Request) -> Option<String> {
    request.field("x-amz-date").map(str::to_owned)
}

fn is_about(date: &str, now: SystemTime) -> bool {
    let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let (earliest, latest) = (amz_date(ms(now - TOLERANCE)), amz_date(ms(now + TOLERANCE)));
    (earliest.as_str()..=latest.as_str()).contains(&date)
}

fn refusal() -> Vec<u8> {
    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current \
                time is too large.</Message></Error>";
    format!("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn forward(request: &Request, server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    let fields = request.head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String = fields.map(|line| format!("{line}\r\n")).collect();
    stream.write_all(&[head.as_bytes(), b"Connection: close\r\n\r\n", &request.body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The answer with the time that we claim it is.
fn dated(answer: &[u8], now: SystemTime) -> Vec<u8> {
    let end = answer.windows(2).position(|pair| pair == b"\r\n").map_or(answer.len(), |at| at + 2);
    let rest = String::from_utf8_lossy(&answer[end..]).into_owned();
    let rest: String = rest.split_inclusive("\r\n").filter(|line| !line.starts_with("Date:")).collect();
    [&answer[..end], format!("Date: {}\r\n", http_date(now)).as_bytes(), rest.as_bytes()].concat()
}
