//! A service in another time: what a device with a wrong clock sees.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ioto::net::amz_date;

use crate::relay::{Request, dated};

/// How far the time of a signature may be off.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Stands before a server and claims that it is later than it is: a signature of another time is refused, as AWS does and
/// moto does not.
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

fn serve(client: TcpStream, server: SocketAddr, by: Duration, counter: &AtomicUsize) -> io::Result<()> {
    let mut reader = BufReader::new(&client);
    loop {
        let request = Request::read(&mut reader)?;
        counter.fetch_add(1, Ordering::SeqCst);
        let now = SystemTime::now() + by;
        let answer = match request.field("x-amz-date").is_some_and(|date| is_about(date, now)) {
            true => request.forward(server)?,
            false => refusal(),
        };
        (&client).write_all(&dated(&answer, now))?;
    }
}

fn is_about(date: &str, now: SystemTime) -> bool {
    let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let (earliest, latest) = (amz_date(ms(now - TOLERANCE)), amz_date(ms(now + TOLERANCE)));
    (earliest.as_str()..=latest.as_str()).contains(&date)
}

fn refusal() -> Vec<u8> {
    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current \
                time is too large.</Message></Error>";
    format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
