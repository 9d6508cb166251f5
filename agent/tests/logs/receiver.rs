//! A receiver of syslog that takes nothing but what the RFCs allow.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// What a connection of the receiver does after so many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends in order, everything read.
    Close(usize),
    /// It breaks, with bytes unread.
    Reset(usize),
    /// It reads nothing any more for so many milliseconds, and then breaks.
    Stall(usize, u64),
    /// It reads nothing for so many milliseconds, and goes on.
    Pause(usize, u64),
}

/// A message as it was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub priority: u8,
    pub host: String,
    pub app: String,
    pub process: String,
    pub parameters: BTreeMap<String, String>,
    pub text: String,
}

impl Message {
    pub fn id(&self) -> &str {
        &self.parameters["id"]
    }
}

/// How bytes are read of a connection.
pub type Wrap = Arc<dyn Fn(TcpStream) -> Box<dyn Read + Send> + Send + Sync>;

pub struct Receiver {
    pub address: SocketAddr,
    listener: Option<Arc<AtomicBool>>,
    wrap: Wrap,
    messages: Arc<Mutex<Vec<Message>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    broken: Arc<AtomicUsize>,
    /// What was there unread when a connection was broken.
    pub unread: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    pub fn new() -> Self {
        Self::wrapped(Arc::new(|stream| Box::new(stream)))
    }

    pub fn wrapped(wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, faults, broken, unread) = Default::default();
        let mut receiver = Self { address, listener: None, wrap, messages, faults, broken, unread };
        receiver.listen(listener);
        receiver
    }

    fn listen(&mut self, listener: TcpListener) {
        let is_open = Arc::new(AtomicBool::new(true));
        self.listener = Some(is_open.clone());
        let (messages, faults) = (self.messages.clone(), self.faults.clone());
        let (broken, unread, wrap) = (self.broken.clone(), self.unread.clone(), self.wrap.clone());
        thread::spawn(move || {
            while is_open.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else { return };
                if !is_open.load(Ordering::SeqCst) {
                    return;
                }
                let (messages, faults) = (messages.clone(), faults.clone());
                let (broken, unread, wrap) = (broken.clone(), unread.clone(), wrap.clone());
                thread::spawn(move || serve(stream, &wrap, &messages, &faults, (&broken, &unread)));
            }
        });
    }

    /// Takes no connections any more; those that stand go on.
    pub fn stop(&mut self) {
        if let Some(is_open) = self.listener.take() {
            is_open.store(false, Ordering::SeqCst);
            let _ = TcpStream::connect(self.address);
        }
    }

    pub fn start(&mut self) {
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.listen(listener);
    }

    /// The next connections do this.
    pub fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    /// How many connections were broken.
    pub fn breaks(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }

    /// How many different ones there are.
    pub fn distinct(&self) -> usize {
        let messages = self.messages.lock().unwrap();
        messages.iter().map(Message::id).collect::<std::collections::HashSet<_>>().len()
    }

    /// Waits until so many different messages are there.
    pub fn wait(&self, distinct: usize, limit: Duration) {
        let began = Instant::now();
        while self.count() < distinct || self.distinct() < distinct {
            assert!(began.elapsed() < limit, "{} of {distinct} messages within {limit:?}", self.distinct());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn serve(
    stream: TcpStream,
    wrap: &Wrap,
    messages: &Mutex<Vec<Message>>,
    faults: &Mutex<VecDeque<Fault>>,
    (broken, unread): (&AtomicUsize, &Mutex<Vec<Message>>),
) {
    let raw = stream.try_clone().unwrap();
    let mut reader = wrap(stream);
    let mut fault = faults.lock().unwrap().pop_front();
    let (mut count, mut buffer, mut chunk) = (0, Vec::new(), [0; 4096]);
    loop {
        match fault {
            Some(Fault::Close(after)) if count >= after && buffer.is_empty() => {
                // In order: what is there already is read.
                raw.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                let _ = raw.shutdown(std::net::Shutdown::Write);
                while read_some(&mut *reader, &mut buffer, &mut chunk, messages, &mut count).is_ok() {}
                return;
            }
            Some(Fault::Reset(after)) if count >= after => {
                broken.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(fastrand::u64(..30)));
                let _ = raw.set_nonblocking(true);
                while read_some(&mut *reader, &mut buffer, &mut chunk, unread, &mut count).is_ok() {}
                let _ = sockopt::set_socket_linger(&raw, Some(Duration::ZERO));
                return;
            }
            Some(Fault::Stall(after, time)) if count >= after => {
                broken.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(time));
                let _ = sockopt::set_socket_linger(&raw, Some(Duration::ZERO));
                return;
            }
            Some(Fault::Pause(after, time)) if count >= after => {
                thread::sleep(Duration::from_millis(time));
                fault = None;
            }
            _ => {}
        }
        if read_some(&mut *reader, &mut buffer, &mut chunk, messages, &mut count).is_err() {
            return;
        }
    }
}

fn read_some(
    reader: &mut dyn Read,
    buffer: &mut Vec<u8>,
    chunk: &mut [u8],
    messages: &Mutex<Vec<Message>>,
    count: &mut usize,
) -> io::Result<()> {
    let length = reader.read(chunk)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.extend(&chunk[..length]);
    while let Some((frame, rest)) = frame(buffer) {
        messages.lock().unwrap().push(parse(frame));
        *count += 1;
        *buffer = rest.to_vec();
    }
    Ok(())
}

/// MSG-LEN SP SYSLOG-MSG, RFC 6587 §3.4.1.
fn frame(buffer: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = buffer.iter().position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(&buffer[..space]).unwrap();
    assert!(length.starts_with(|c: char| ('1'..='9').contains(&c)), "MSG-LEN is {length:?}");
    let length: usize = length.parse().unwrap();
    buffer[space + 1..].split_at_checked(length)
}

/// RFC 5424 §6, as strict as it is written.
pub fn parse(message: &[u8]) -> Message {
    let text = std::str::from_utf8(message).expect("UTF-8");
    let (priority, rest) = text.strip_prefix('<').unwrap().split_once('>').unwrap();
    let rest = rest.strip_prefix("1 ").expect("version 1");
    let mut fields = rest.splitn(6, ' ');
    let mut header = |longest: usize| {
        let field = fields.next().unwrap();
        assert!((1..=longest).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_graphic()), "{field:?}");
        field.to_owned()
    };
    let (time, host, app, process, id) = (header(32), header(255), header(48), header(128), header(32));
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!((shape.as_str(), id.as_str()), ("9999-99-99T99:99:99.999999Z", "-"));
    let data = fields.next().unwrap().strip_prefix("[ioto@32473 ").expect("our structured data");
    let (mut parameters, mut rest) = (BTreeMap::new(), data);
    let text = loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase()), "{name:?}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(chars.next().unwrap().1),
                (_, c) => {
                    assert!(c != ']' && !c.is_control());
                    value.push(c);
                }
            }
        };
        assert!(parameters.insert(name.to_owned(), value).is_none());
        let after = &after[end + 1..];
        match after.strip_prefix("] ") {
            Some(text) => break text,
            None => rest = after.strip_prefix(' ').unwrap(),
        }
    };
    assert!(!text.starts_with('\u{feff}') && text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
    Message { priority: priority.parse().unwrap(), host, app, process, parameters, text: text.to_owned() }
}
