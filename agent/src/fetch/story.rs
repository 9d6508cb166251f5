//! The story of a request: its attempts, and where its responses lead.

use std::time::{Duration, Instant, SystemTime};

use smol::Timer;

use super::call::Call;
use super::course::Course;
use super::digest::{self, Credentials};
use super::redirect::{self, Next};
use super::request::Plan;
use super::{Body, Client, Error, Request, Response, Url};
use crate::http1::{Headers, Method};
use crate::net::{Backoff, parse_http_date};

/// The ceiling of the first wait before a repetition, and of all.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Who shall wait longer for a server than this has the response and decides.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Sends a request, and again if it may be.
pub(super) async fn run(request: Request) -> Result<Response, Error> {
    let mut course = Course::new(request.plan.timeout, request.meter());
    // A response takes the course along.
    let ends = course.ends();
    let Request { client, method, url, headers, body, plan, .. } = request;
    let (url, mut body) = (url?, body);
    let mut left = if plan.repeatable { plan.retries } else { 0 };
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let again = body.again().filter(|_| left > 0);
        let trip = Trip {
            client: &client,
            plan: &plan,
            method: method.clone(),
            url: url.clone(),
            headers: headers.clone(),
            login: plan.digest.as_ref(),
            body,
        };
        let result = trip.run(&mut course).await;
        let Some(again) = again else { return result };
        let wait = match &result {
            Ok(response) => match passes(response) {
                Some(asked) if asked <= LONGEST_RETRY_AFTER => backoff.next().max(asked),
                _ => return result,
            },
            Err(error) if error.is_transient() => backoff.next(),
            Err(_) => return result,
        };
        if ends.is_some_and(|at| Instant::now() + wait >= at) {
            return result;
        }
        match result {
            Ok(response) => {
                log::debug!("{url} answered {}; again in {wait:?}", response.status());
                course = response.discard().await;
            }
            Err(error) => log::debug!("{error}; again in {wait:?}"),
        }
        Timer::after(wait).await;
        left -= 1;
        body = again;
    }
}

/// How long to wait before the request may succeed, if it is the server's state that failed it.
fn passes(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), 408 | 429 | 500 | 502 | 503 | 504) {
        return None;
    }
    let asked = response.header("retry-after").map(str::trim).and_then(|text| match text.parse().ok() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Some(parse_http_date(text)?.duration_since(SystemTime::now()).unwrap_or_default()),
    });
    Some(asked.unwrap_or_default())
}

/// One attempt: from place to place, until a response is for the caller.
struct Trip<'a> {
    client: &'a Client,
    plan: &'a Plan,
    method: Method,
    url: Url,
    headers: Headers,
    login: Option<&'a (String, crate::config::Secret)>,
    body: Body,
}

impl Trip<'_> {
    async fn run(mut self, course: &mut Course) -> Result<Response, Error> {
        let (mut followed, mut asked) = (0, false);
        loop {
            let again = self.body.again();
            let body = std::mem::take(&mut self.body);
            let authorization = self.answer_to_last_challenge();
            let call = Call {
                client: self.client,
                plan: self.plan,
                method: &self.method,
                url: &self.url,
                headers: &self.headers,
                authorization,
            };
            let response = call.send(body, course).await?;
            if let Some(jar) = &self.client.options().cookies {
                jar.store(&self.url, response.headers());
            }
            if response.status() == 401 && self.login.is_some() && !asked && self.learn_challenge(&response) {
                asked = true;
                self.body = again.ok_or_else(|| self.unrepeatable())?;
                *course = response.discard().await;
                continue;
            }
            let next = match self.plan.redirects {
                0 => Next::Done,
                _ => redirect::next(response.status(), response.header("location"), &self.method, &self.url)?,
            };
            let (there, drops_body) = match next {
                Next::Done => return Ok(response),
                Next::Same(there) => (there, false),
                Next::Get(there) => (there, true),
            };
            if followed == self.plan.redirects {
                return Err(Error::Redirects { host: self.url.host().into(), limit: followed });
            }
            followed += 1;
            log::debug!("{} {} leads to {there}", response.status(), self.url);
            self.body = match (drops_body, again) {
                (true, _) => Body::empty(),
                (false, Some(body)) => body,
                (false, None) => {
                    let reason = "the body of the request cannot be read twice; send bytes, or ask for this URL";
                    return Err(Error::Redirect { location: there.to_string(), reason });
                }
            };
            if drops_body {
                self.method = Method::Get;
            }
            redirect::adapt(&mut self.headers, &self.url, &there, drops_body);
            if !self.url.same_origin(&there) {
                self.login = None;
            }
            self.url = there;
            *course = response.discard().await;
        }
    }

    fn answer_to_last_challenge(&self) -> Option<String> {
        let (name, password) = self.login?;
        let credentials = Credentials { name, password: password.expose() };
        self.client.challenges().answer(&self.url, &credentials, self.method.as_str())
    }

    /// Whether the server asks for a digest that we can make.
    fn learn_challenge(&self, response: &Response) -> bool {
        match digest::best(response.headers()) {
            Some(challenge) => {
                self.client.challenges().learn(&self.url, challenge);
                true
            }
            None => false,
        }
    }

    fn unrepeatable(&self) -> Error {
        let host = self.url.host().to_owned();
        let reason = "it asks for a digest of the password and wants the body again, which can be read only once; send \
                      bytes or a file";
        Error::Login { host, reason }
    }
}
