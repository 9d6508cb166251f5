//! The transport over MQTT without its I/O: which changes go into which message, and which answer is whose. Changes, questions,
//! answers and time in, messages and answers out.
//!
//! That the broker has a message says nothing; only the answer of the cloud counts, and there may be none, two, or a late one, in
//! parts and in any order. A request that is not answered in time is given up, and then nothing is known of it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::engine::Push;
use super::item;
use super::message::{self, CHANGES, MESSAGE, Reply};
use super::pull::{Page, Query};
use super::question::Place;

/// Requests on their way at a time.
const REQUESTS: usize = 4;
/// A change waits so long for others to go with it.
const GATHER: Duration = Duration::from_millis(50);

/// Who sends, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The thing, and where its rows are.
    pub place: Place,
    /// Id of the database file.
    pub site: String,
    /// Version of the schema.
    pub schema: String,
    /// How long an answer may take.
    pub limit: Duration,
    /// What the ids of requests begin with: nobody else has it, and no earlier run of this program.
    pub name: String,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Publish this; if that fails, call [`Courier::unsent`].
    Send { id: String, message: Vec<u8> },
    /// What became of the push of this id.
    Answered(u64, Answer),
    /// The page for the query of this id, or why there is none.
    Read(u64, Result<Page, String>),
}

/// A change.
struct Parcel {
    push: Push,
    /// As JSON.
    change: String,
    /// When it was handed in.
    since: Instant,
    /// It goes in a message of its own, because one with others was refused.
    is_alone: bool,
}

impl Parcel {
    fn row(&self) -> (&str, &str) {
        (&self.push.row.model, &self.push.row.key)
    }
}

/// A request on its way.
struct Sent {
    id: String,
    content: Content,
    until: Instant,
}

enum Content {
    /// What is not answered yet, by its place in the batch.
    Changes(Vec<Option<Parcel>>),
    Question(Query),
}

/// Sends changes and questions in messages.
pub(super) struct Courier {
    settings: Settings,
    opening: String,
    waiting: VecDeque<Parcel>,
    questions: VecDeque<Query>,
    sent: Vec<Sent>,
    done: VecDeque<Action>,
    next_id: u64,
}

impl Courier {
    pub fn new(settings: Settings) -> Self {
        let opening = message::opening(&settings.site, &settings.schema);
        Self {
            settings,
            opening,
            waiting: VecDeque::new(),
            questions: VecDeque::new(),
            sent: Vec::new(),
            done: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Takes a change. `fields` are those that the schema declares for the model.
    pub fn push(&mut self, push: Push, fields: &[String], now: Instant) {
        match self.change(&push, fields) {
            Ok(change) => self.waiting.push_back(Parcel { push, change, since: now, is_alone: false }),
            Err(reason) => self.done.push_back(Action::Answered(push.id, Answer::Refused(reason))),
        }
    }

    fn change(&self, push: &Push, fields: &[String]) -> Result<String, String> {
        let change = item::change(&self.settings.place.thing, push, fields)?.to_string();
        let room = MESSAGE - message::overhead(&self.opening, &self.id(u64::MAX));
        match change.len() <= room {
            true => Ok(change),
            false => Err(format!(
                "the row takes {} bytes of a message, which has room for {room}: keep large content in S3, or use \
                 sync.transport: 'dynamodb'",
                change.len()
            )),
        }
    }

    /// Takes a question.
    pub fn ask(&mut self, query: Query) {
        self.questions.push_back(query);
    }

    /// Nobody waits for the answer to this push any more; it may be carried out all the same, if it was sent.
    pub fn forget_push(&mut self, push: u64) {
        self.waiting.retain(|parcel| parcel.push.id != push);
    }

    /// Nobody waits for this page any more.
    pub fn forget_question(&mut self, query: u64) {
        self.questions.retain(|question| question.id != query);
    }

    /// A message on the topic of answers. An error says what is wrong with it, in words; it changes nothing.
    pub fn received(&mut self, payload: &[u8], now: Instant) -> Result<(), String> {
        let (id, reply) = message::reply(payload)?;
        // Another run's, or one that came too late or twice.
        let Some(at) = self.sent.iter().position(|sent| sent.id == id) else { return Ok(()) };
        match (reply, &mut self.sent[at].content) {
            (Reply::Results(results), Content::Changes(parcels)) => {
                for (place, result) in results {
                    let Some(parcel) = parcels.get_mut(place).and_then(Option::take) else { continue };
                    let answer = message::answer(&self.settings.place.thing, &parcel.push, &result);
                    self.done.push_back(Action::Answered(parcel.push.id, answer));
                }
                if parcels.iter().all(Option::is_none) {
                    self.sent.remove(at);
                }
                Ok(())
            }
            (Reply::Page(page), Content::Question(query)) => {
                let page = message::page(&self.settings.place, query, &page);
                self.done.push_back(Action::Read(query.id, page));
                self.sent.remove(at);
                Ok(())
            }
            (Reply::Error { retry, reason }, _) => {
                let sent = self.sent.remove(at);
                match sent.content {
                    Content::Changes(parcels) if !retry => self.refused(parcels, &reason, now),
                    content => self.give_up(content, &reason),
                }
                Ok(())
            }
            (Reply::Results(_) | Reply::Page(_), _) => Err("it answers something else than was asked".to_owned()),
        }
    }

    /// The request could not be published.
    pub fn unsent(&mut self, id: &str, reason: &str) {
        if let Some(at) = self.sent.iter().position(|sent| sent.id == id) {
            let sent = self.sent.remove(at);
            self.give_up(sent.content, reason);
        }
    }

    /// Whether this request is on its way.
    pub fn is_sent(&self, id: &str) -> bool {
        self.sent.iter().any(|sent| sent.id == id)
    }

    /// The next thing to do, until `None`. Without a connection nothing is sent, and who waits for that is told so.
    pub fn poll(&mut self, now: Instant, is_connected: bool) -> Option<Action> {
        while let Some(at) = self.sent.iter().position(|sent| sent.until <= now) {
            let late = self.sent.remove(at);
            let reason = format!("no answer within {} s", self.settings.limit.as_secs());
            self.give_up(late.content, &reason);
        }
        if !is_connected {
            let waiting = self.waiting.drain(..).map(Some).collect();
            self.give_up(Content::Changes(waiting), "the broker is not connected");
            while let Some(query) = self.questions.pop_front() {
                self.give_up(Content::Question(query), "the broker is not connected");
            }
        }
        if let Some(done) = self.done.pop_front() {
            return Some(done);
        }
        if self.sent.len() >= REQUESTS {
            return None;
        }
        if let Some(query) = self.questions.pop_front() {
            let id = self.next_id();
            let message = message::question(&id, &query);
            return Some(self.send(id, Content::Question(query), message, now));
        }
        let parcels = self.load(now)?;
        let id = self.next_id();
        let message = message::batch(&self.opening, &id, parcels.iter().map(|parcel| parcel.change.as_str()));
        let parcels = parcels.into_iter().map(Some).collect();
        Some(self.send(id, Content::Changes(parcels), message, now))
    }

    /// When to call [`poll`](Self::poll) again although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        let answers = self.sent.iter().map(|sent| sent.until);
        answers.chain(self.first().map(|first| first.since + GATHER)).min()
    }

    fn send(&mut self, id: String, content: Content, message: Vec<u8>, now: Instant) -> Action {
        let until = now + self.settings.limit;
        self.sent.push(Sent { id: id.clone(), content, until });
        Action::Send { id, message }
    }

    /// The changes of the next message, if it is time for one. A row that is on its way waits.
    fn load(&mut self, now: Instant) -> Option<Vec<Parcel>> {
        let first = self.first()?;
        if now < first.since + GATHER {
            return None;
        }
        let is_alone = first.is_alone;
        let mut room = MESSAGE - message::overhead(&self.opening, &self.id(u64::MAX));
        let mut rows = self.rows();
        let (mut loaded, mut left) = (Vec::new(), VecDeque::new());
        let mut is_full = false;
        for parcel in self.waiting.drain(..) {
            let row = parcel.row();
            let row = (row.0.to_owned(), row.1.to_owned());
            // With the comma before it.
            let needed = parcel.change.len() + usize::from(!loaded.is_empty());
            // Only as many as come first: those behind a large one do not overtake it.
            is_full |=
                !rows.contains(&row) && needed > room || loaded.len() == CHANGES || is_alone && !loaded.is_empty();
            if is_full || rows.contains(&row) || parcel.is_alone != is_alone {
                left.push_back(parcel);
            } else {
                room -= needed;
                rows.insert(row);
                loaded.push(parcel);
            }
        }
        self.waiting = left;
        Some(loaded)
    }

    /// The first change that could go.
    fn first(&self) -> Option<&Parcel> {
        if self.sent.len() >= REQUESTS {
            return None;
        }
        let rows = self.rows();
        self.waiting.iter().find(|parcel| {
            let (model, key) = parcel.row();
            rows.is_empty() || !rows.contains(&(model.to_owned(), key.to_owned()))
        })
    }

    /// Rows of which a change is on its way.
    fn rows(&self) -> HashSet<(String, String)> {
        let contents = self.sent.iter().filter_map(|sent| match &sent.content {
            Content::Changes(parcels) => Some(parcels.iter().flatten()),
            Content::Question(_) => None,
        });
        let rows = contents.flatten().map(Parcel::row);
        rows.map(|(model, key)| (model.to_owned(), key.to_owned())).collect()
    }

    /// Nothing is known of these any more.
    fn give_up(&mut self, content: Content, reason: &str) {
        match content {
            Content::Changes(parcels) => self.done.extend(
                (parcels.into_iter().flatten())
                    .map(|parcel| Action::Answered(parcel.push.id, Answer::Failed(reason.to_owned()))),
            ),
            Content::Question(query) => self.done.push_back(Action::Read(query.id, Err(reason.to_owned()))),
        }
    }

    /// The cloud does not understand a message: perhaps because of one of its changes, so each is tried by itself.
    fn refused(&mut self, parcels: Vec<Option<Parcel>>, reason: &str, now: Instant) {
        let is_one = parcels.iter().flatten().count() == 1;
        for mut parcel in parcels.into_iter().flatten() {
            if is_one {
                self.done.push_back(Action::Answered(parcel.push.id, Answer::Refused(reason.to_owned())));
            } else {
                parcel.is_alone = true;
                parcel.since = now;
                self.waiting.push_back(parcel);
            }
        }
    }

    fn next_id(&mut self) -> String {
        self.next_id += 1;
        self.id(self.next_id)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.settings.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "courier_tests.rs"]
mod tests;
