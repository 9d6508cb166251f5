//! One request and its response.

use std::fmt::Write;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ioto::fetch::{Client, Request, Response, Url};
use ioto::http1;
use smol::io::AsyncRead;

use super::data::Data;
use super::failure::{self, Failure};
use super::meter::Meter;
use super::plan::Plan;
use super::sign::Signer;
use super::sink::Sink;
use super::write_out::Figures;
use crate::cli::output::complain;

/// Bytes of a body that are moved at once. The kernel's buffer of a fast connection is larger.
const PIECE: usize = 128 * 1024;

/// Carries out the plan, request by request.
pub struct Transfers<'a> {
    pub plan: &'a Plan,
    pub client: Client,
    pub signer: Option<Signer>,
    /// For bodies of responses.
    pub piece: Vec<u8>,
}

impl Transfers<'_> {
    /// One of them. The figures are of what was done until it ended or failed.
    pub async fn run(&mut self, url: &str) -> (Figures, Result<(), Failure>) {
        let start = Instant::now();
        let mut figures = Figures { url: url.into(), method: self.plan.method.as_str().into(), ..Figures::default() };
        let sent = Arc::new(AtomicU64::new(0));
        let result = self.fetch(url, start, &sent, &mut figures).await;
        figures.total = start.elapsed();
        figures.sent = sent.load(Ordering::Relaxed);
        figures.exit = result.as_ref().err().map_or(0, |failure| failure.status);
        (figures, result)
    }

    async fn fetch(
        &mut self,
        text: &str,
        start: Instant,
        sent: &Arc<AtomicU64>,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let plan = self.plan;
        let url: Url = text.parse()?;
        let mut sink = Sink::new(&plan.output, plan.resume, &url)?;
        let mut response = self.send(text, &url, sink.offset, sent).await?;
        figures.first = start.elapsed();
        figures.status = response.status();
        figures.url = response.url().to_string();
        figures.content_type = response.header("content-type").unwrap_or_default().into();
        if plan.verbose {
            complain(head_of(&response, "< ").trim_end());
        }
        if plan.fail && response.status() >= 400 {
            let status = response.status();
            let text = format!("{} answers {status} {}", response.url(), http1::reason(status));
            return Err(Failure::new(Failure::REFUSED, text.trim_end()));
        }
        if sink.check(&response)? {
            return Ok(());
        }
        if plan.include {
            sink.write(head_of(&response, "").as_bytes())?;
        }
        self.piece.resize(PIECE, 0);
        loop {
            let piece = &mut self.piece;
            let got = poll_fn(|cx| Pin::new(&mut response).poll_read(cx, piece)).await.map_err(Failure::stream)?;
            if got == 0 {
                break;
            }
            figures.received += got as u64;
            sink.write(&self.piece[..got])?;
            if sink.is_deserted {
                return Ok(());
            }
        }
        if figures.received == 0 {
            sink.open()?;
        }
        Ok(())
    }

    async fn send(&self, text: &str, url: &Url, offset: u64, sent: &Arc<AtomicU64>) -> Result<Response, Failure> {
        let plan = self.plan;
        let silence = |error: ioto::fetch::Error| match failure::is_silence(&error, 0) {
            true => Failure::new(52, error.to_string()),
            false => error.into(),
        };
        if let Some(signer) = &self.signer {
            let (sent, dress) = (Arc::clone(sent), Dress::of(plan));
            let adapt = move |request| dress.put_on(request, offset, &sent);
            return signer.send(plan, text, offset, adapt).await;
        }
        let request = self.client.request(plan.method.clone(), text).body(plan.data.body());
        let mut request = plan.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        if let Some((name, password)) = &plan.user {
            request = match plan.digest {
                true => request.digest(name, password),
                false => request.basic(name, password),
            };
        }
        if offset > 0 {
            request = request.range(offset, None);
        }
        if plan.verbose {
            complain(&request_of(&request, url));
        }
        Dress::of(plan).put_on(request, offset, sent).send().await.map_err(silence)
    }
}

/// What goes with each request beside what is in it.
struct Dress {
    rate: Option<u64>,
    timeout: Option<std::time::Duration>,
    retries: u8,
    compressed: bool,
    meter: bool,
    counts: bool,
}

impl Dress {
    fn of(plan: &Plan) -> Self {
        Self {
            rate: plan.rate,
            timeout: plan.max_time,
            retries: plan.retries,
            compressed: plan.compressed,
            // On a terminal, lines of the body and lines of progress would stand in each other.
            meter: !plan.quiet && plan.repeat == 1 && Meter::is_wanted() && !plan.writes_to_terminal(),
            counts: plan.write_out.is_some() && !matches!(plan.data, Data::Nothing),
        }
    }

    fn put_on(&self, mut request: Request, offset: u64, sent: &Arc<AtomicU64>) -> Request {
        if let Some(rate) = self.rate {
            request = request.limit_rate(rate);
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if self.meter || self.counts {
            let mut meter = self.meter.then(|| Meter::new(offset));
            let sent = Arc::clone(sent);
            request = request.progress(move |progress| {
                sent.store(progress.sent, Ordering::Relaxed);
                if let Some(meter) = &mut meter {
                    meter.moved(&progress);
                }
            });
        }
        request.retries(self.retries).compressed(self.compressed)
    }
}

/// The head of a response as it came, but for the version and the phrase, which say nothing.
fn head_of(response: &Response, before: &str) -> String {
    let status = response.status();
    let mut text = format!("{before}HTTP/1.1 {status} {}\r\n", http1::reason(status));
    for (name, value) in response.headers().iter() {
        let _ = write!(text, "{before}{name}: {value}\r\n");
    }
    text + before.trim_end() + "\r\n"
}

/// The head of a request as far as the caller decides about it. What proves who we are is not for eyes and logs.
fn request_of(request: &Request, url: &Url) -> String {
    let mut text = format!("> {} {} HTTP/1.1\n> Host: {}", request.method().as_str(), url.target(), url.authority());
    for (name, value) in request.headers().iter() {
        let secret = name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie");
        let _ = write!(text, "\n> {name}: {}", if secret { "***" } else { value });
    }
    text + "\n>"
}
