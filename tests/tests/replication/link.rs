//! The way to AWS as it is on a bad day: requests and answers are lost, cut, held up, delivered twice or long after the
//! device has given them up; the service fails, throttles, has another time, and takes the device's key for expired.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ioto::aws::DynamoDb;
use ioto::net::parse_http_date;
use ioto_tests::relay::{Request, dated};
use serde_json::{Value, json};

use crate::history::Write;
use crate::mutant::Mutant;

/// How far the time of a signature may be off.
const TOLERANCE_MS: i64 = 5 * 60_000;

/// What goes on for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// So many requests of 100 have a fault of their own.
    pub trouble: u8,
    /// The time of the service is ahead by so many milliseconds.
    pub ahead: i64,
    /// The key of the device has expired.
    pub expired: bool,
    /// The table has no capacity left.
    pub throttled: bool,
}

/// A proxy between the device and moto.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    dynamo: DynamoDb,
    mutant: Option<Mutant>,
    /// The cloud's function is before it, not the device: nobody else answers inside AWS.
    is_inside: bool,
    weather: Mutex<Weather>,
    random: Mutex<fastrand::Rng>,
    /// Locked while moto works: its conditions and items are whole for one request at a time only.
    cloud: Mutex<Cloud>,
    requests: AtomicU64,
    /// Requests that were held and are not delivered yet.
    held: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, u32>>,
}

/// What was done to the table.
#[derive(Default)]
pub struct Cloud {
    pub writes: Vec<Write>,
    /// What the device must never send.
    pub wrong: Option<String>,
}

/// A fault of one request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Only so many bytes arrive.
    RequestCut(usize),
    /// It arrives; only so many bytes of the answer do.
    AnswerCut(usize),
    /// The connection is cut, and the request arrives later all the same.
    Late(u64),
    /// It arrives, and once more later.
    Twice(u64),
    /// It takes long, perhaps longer than the device waits.
    Stall(u64),
    /// The answer does.
    SlowAnswer(u64),
    /// The service fails, and has done nothing.
    Fails,
    /// The service fails, and has done it.
    FailsAfter,
    Throttles,
    TooMany,
    /// The answer has another time, by so many milliseconds.
    WrongDate(i64),
    /// Somebody else answers.
    Portal,
    /// The answer is damaged.
    Damaged,
}

impl Fault {
    fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u8(..13) {
            0 => Self::RequestCut(random.usize(..2000)),
            1 => Self::AnswerCut(random.usize(..600)),
            2 => Self::Late(random.u64(..4000)),
            3 => Self::Twice(random.u64(..4000)),
            4 => Self::Stall(random.u64(..2500)),
            5 => Self::SlowAnswer(random.u64(..2500)),
            6 => Self::Fails,
            7 => Self::FailsAfter,
            8 => Self::Throttles,
            9 => Self::TooMany,
            10 => Self::WrongDate(random.i64(-YEARS..YEARS)),
            11 => Self::Portal,
            _ => Self::Damaged,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RequestCut(_) => "request cut",
            Self::AnswerCut(_) => "answer cut",
            Self::Late(_) => "late",
            Self::Twice(_) => "twice",
            Self::Stall(_) => "stall",
            Self::SlowAnswer(_) => "slow answer",
            Self::Fails => "500",
            Self::FailsAfter => "500 after",
            Self::Throttles => "throttled",
            Self::TooMany => "429",
            Self::WrongDate(_) => "wrong date",
            Self::Portal => "portal",
            Self::Damaged => "damaged",
        }
    }
}

/// Ten of them, in milliseconds.
pub const YEARS: i64 = 10 * 365 * 86_400_000;

impl Link {
    /// To the moto at `server`; `dynamo` is a way past it. `is_inside`: from the cloud's function.
    pub fn new(server: SocketAddr, dynamo: DynamoDb, mutant: Option<Mutant>, is_inside: bool, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the link");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server,
            dynamo,
            mutant,
            is_inside,
            weather: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            cloud: Mutex::default(),
            requests: AtomicU64::new(0),
            held: AtomicU64::new(0),
            faults: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        // Ends with the process: it has nothing that must be cleaned up.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || drop(serve(&client, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it is from now on.
    pub fn set(&self, weather: Weather) {
        *lock(&self.shared.weather) = weather;
    }

    /// The table, for whoever writes beside the device; no request of the device is carried out meanwhile.
    pub fn cloud(&self) -> MutexGuard<'_, Cloud> {
        lock(&self.shared.cloud)
    }

    /// A way past it.
    pub fn dynamo(&self) -> &DynamoDb {
        &self.shared.dynamo
    }

    /// Writes that the device asked for so far, and requests that are still to be delivered.
    pub fn requests(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::SeqCst), self.shared.held.load(Ordering::SeqCst))
    }

    /// How often it did what.
    pub fn faults(&self) -> BTreeMap<&'static str, u32> {
        lock(&self.shared.faults).clone()
    }
}

fn serve(client: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    loop {
        let request = Request::read(&mut reader)?;
        shared.requests.fetch_add(u64::from(writes(&request)), Ordering::SeqCst);
        pass(client, &request, shared)?;
    }
}

/// Passes one request on. An error ends the connection.
fn pass(mut client: &TcpStream, request: &Request, shared: &Arc<Shared>) -> io::Result<()> {
    let weather = *lock(&shared.weather);
    let now = |off: i64| {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        UNIX_EPOCH + Duration::from_millis((ms + off).max(0) as u64)
    };
    let mut say = |answer: &[u8], off: i64| client.write_all(&dated(answer, now(weather.ahead + off)));
    let skew = request.field("x-amz-date").and_then(signed_at).map(|signed| difference(now(weather.ahead), signed));
    if skew.is_none_or(|skew| skew.abs() > TOLERANCE_MS) {
        shared.count("signature refused");
        return say(&refusal(400, "InvalidSignatureException", "Signature expired: it is of another time"), 0);
    }
    if weather.expired {
        shared.count("token expired");
        return say(&refusal(400, "ExpiredTokenException", "The security token included in the request is expired"), 0);
    }
    if weather.throttled {
        shared.count("table throttled");
        return say(&refusal(400, "ProvisionedThroughputExceededException", "The level is exceeded"), 0);
    }
    let fault = {
        let mut random = lock(&shared.random);
        if random.u8(..100) < weather.trouble { Fault::draw(&mut random) } else { Fault::None }
    };
    let fault = if shared.is_inside && matches!(fault, Fault::Portal) { Fault::Fails } else { fault };
    shared.count(fault.name());
    let cut = || Err(io::ErrorKind::ConnectionAborted.into());
    match fault {
        Fault::None => say(&shared.deliver(request)?, 0),
        Fault::RequestCut(bytes) => {
            let all = request.bytes();
            // moto takes a cut head for a whole one, so only the body is cut; its last byte is missing at least.
            // dynalite ends at a cut one.
            if bytes >= all.len() - request.body().len() && crate::dynalite().is_none() {
                TcpStream::connect(shared.server)?.write_all(&all[..bytes.min(all.len() - 1)])?;
            }
            cut()
        }
        Fault::AnswerCut(bytes) => {
            let answer = shared.deliver(request)?;
            client.write_all(&answer[..bytes.min(answer.len() - 1)])?;
            cut()
        }
        Fault::Late(ms) => {
            shared.hold(request, ms);
            cut()
        }
        Fault::Twice(ms) => {
            shared.hold(request, ms);
            say(&shared.deliver(request)?, 0)
        }
        Fault::Stall(ms) => {
            thread::sleep(Duration::from_millis(ms));
            say(&shared.deliver(request)?, 0)
        }
        Fault::SlowAnswer(ms) => {
            let answer = shared.deliver(request)?;
            thread::sleep(Duration::from_millis(ms));
            say(&answer, 0)
        }
        Fault::Fails => say(&refusal(500, "InternalServerError", "The request could not be processed"), 0),
        Fault::FailsAfter => {
            shared.deliver(request)?;
            say(&refusal(500, "InternalServerError", "The request could not be processed"), 0)
        }
        Fault::Throttles => say(&refusal(400, "ThrottlingException", "Rate exceeded"), 0),
        Fault::TooMany => say(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", 0),
        Fault::WrongDate(off) => say(&shared.deliver(request)?, off),
        Fault::Portal => say(&whole(200, "", "<html>Please log in</html>"), 0),
        Fault::Damaged => {
            shared.deliver(request)?;
            say(&whole(200, "x-amz-crc32: 1\r\n", "{}"), 0)
        }
    }
}

impl Shared {
    /// Has moto carry it out, and writes down what that did. What only reads is none of the mutants' business.
    fn deliver(&self, request: &Request) -> io::Result<Vec<u8>> {
        // A reader too would see an item that moto has not finished.
        let mut cloud = lock(&self.cloud);
        if !writes(request) {
            return request.forward(self.server);
        }
        let mut body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        if is_batch(request) {
            return self.deliver_batch(&mut cloud, body);
        }
        let answer = match self.mutant {
            None => self.explained(request.forward(self.server)?, &body)?,
            Some(mutant) => {
                if mutant.swallows(&mut lock(&self.random)) {
                    return Ok(whole(200, "", "{}"));
                }
                body = mutant.spoil(body);
                match smol::block_on(self.dynamo.call("UpdateItem", &body)) {
                    Ok(_) => whole(200, "", "{}"),
                    Err(ioto::aws::Error::Service { status, body, .. }) => {
                        whole(status, "", &mutant.spoil_answer(body).to_string())
                    }
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
            }
        };
        if answer.starts_with(b"HTTP/1.1 200") {
            match Write::of_request(&body) {
                Ok(write) => cloud.writes.push(write),
                Err(wrong) => cloud.wrong = Some(wrong),
            }
        }
        Ok(answer)
    }

    /// A refusal with the item that was in the way. DynamoDB has it in its answer, and dynalite has not.
    fn explained(&self, answer: Vec<u8>, request: &Value) -> io::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(&answer);
        let mut body: Value =
            text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default();
        let is_refusal = body["__type"].as_str().is_some_and(|kind| kind.ends_with("#ConditionalCheckFailedException"));
        if !is_refusal || !body["Item"].is_null() {
            return Ok(answer);
        }
        let question = json!({"TableName": request["TableName"], "Key": request["Key"], "ConsistentRead": true});
        let found = smol::block_on(self.dynamo.call("GetItem", &question));
        body["Item"] = found.map_err(|error| io::Error::other(error.to_string()))?["Item"].take();
        if body["Item"].is_null() {
            return Ok(answer);
        }
        Ok(whole(400, "", &body.to_string()))
    }

    /// Has moto carry out a part of it; the rest goes back as unprocessed.
    fn deliver_batch(&self, cloud: &mut Cloud, body: Value) -> io::Result<Vec<u8>> {
        let tables = body["RequestItems"].as_object().cloned().unwrap_or_default();
        let Some((table, puts)) = tables.into_iter().next() else { return Err(io::Error::other("an empty batch")) };
        let trouble = lock(&self.weather).trouble;
        let is_left = |_: &Value| lock(&self.random).u8(..100) < trouble / 2;
        let puts = puts.as_array().cloned().unwrap_or_default();
        let (mut left, mut taken): (Vec<_>, Vec<_>) = puts.into_iter().partition(is_left);
        if taken.is_empty() {
            taken.extend(left.pop());
        }
        if !left.is_empty() {
            self.count("unprocessed");
        }
        let request = json!({"RequestItems": {table.as_str(): taken}});
        if let Err(error) = smol::block_on(self.dynamo.call("BatchWriteItem", &request)) {
            return Err(io::Error::other(error.to_string()));
        }
        for put in &taken {
            match Write::of_put(&put["PutRequest"]["Item"]) {
                Ok(write)
                    if cloud
                        .writes
                        .iter()
                        .rev()
                        .find(|last| last.key == write.key)
                        .is_some_and(|last| write.repeats(last)) => {}
                Ok(write) => cloud.writes.push(write),
                Err(wrong) => cloud.wrong = Some(wrong),
            }
        }
        let left = if left.is_empty() { json!({}) } else { json!({table: left}) };
        Ok(whole(200, "", &json!({"UnprocessedItems": left}).to_string()))
    }

    /// Delivers it later.
    fn hold(self: &Arc<Self>, request: &Request, ms: u64) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let (shared, request) = (Arc::clone(self), request.clone());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(ms));
            let _ = shared.deliver(&request);
            shared.held.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn count(&self, what: &'static str) {
        *lock(&self.faults).entry(what).or_default() += 1;
    }
}

fn writes(request: &Request) -> bool {
    request.field("x-amz-target") == Some("DynamoDB_20120810.UpdateItem") || is_batch(request)
}

fn is_batch(request: &Request) -> bool {
    request.field("x-amz-target") == Some("DynamoDB_20120810.BatchWriteItem")
}

/// When a request was signed, from `20260102T030405Z`.
fn signed_at(date: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let part = |from: usize, to: usize| date.get(from..to);
    let month = MONTHS.get(part(4, 6)?.parse::<usize>().ok()?.checked_sub(1)?)?;
    let (day, year) = (part(6, 8)?, part(0, 4)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 15)?);
    parse_http_date(&format!("Mon, {day} {month} {year} {hour}:{minute}:{second} GMT"))
}

/// In milliseconds.
fn difference(a: SystemTime, b: SystemTime) -> i64 {
    match a.duration_since(b) {
        Ok(since) => since.as_millis() as i64,
        Err(error) => -(error.duration().as_millis() as i64),
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Vec<u8> {
    let body = format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"{message}\"}}");
    whole(status, "", &body)
}

fn whole(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
