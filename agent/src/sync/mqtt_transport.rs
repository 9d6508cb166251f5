//! Replication by messages of MQTT, for devices with one connection: the [courier](super::courier) on a client of the room `mqtt`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt;
use smol::{LocalExecutor, Task, Timer};

use super::answer::Answer;
use super::courier::{Action, Courier, Settings};
use super::engine::Push;
use super::pull::{Page, Query};
use super::question::Place;
use super::transport::Transport;
use crate::config;
use crate::db::Db;
use crate::mqtt::{Client, Error, Listener, QoS};
use crate::net::Alarm;

/// How long nothing is asked of the broker after it refused the topic of the answers.
const REFUSED: Duration = Duration::from_secs(60);

/// The function behind the topic rule of `agent/cloud`. [`MqttTransport::run`] is to be polled beside the replicator, which gets
/// a reference as its [`Transport`].
pub struct MqttTransport {
    client: Client,
    up: String,
    acks: String,
    /// The fields of each model.
    fields: HashMap<String, Vec<String>>,
    inner: RefCell<Inner>,
    wake: (Sender<()>, Receiver<()>),
    /// Bytes of the messages in both directions.
    traffic: Cell<u64>,
}

struct Inner {
    courier: Courier,
    pushes: HashMap<u64, Sender<Answer>>,
    pages: HashMap<u64, Sender<Result<Page, String>>>,
    /// Why nothing can be sent, although the client is connected.
    refused: Option<String>,
    /// Something of no use came, and it was said.
    is_told: bool,
}

impl MqttTransport {
    /// Messages of `thing` through `client`, with the rows of `db`.
    pub fn new(client: Client, options: &config::Sync, thing: &str, db: &Db) -> Self {
        let schema = db.schema();
        let fields = schema.models().map(|model| {
            let names = model.fields().iter().map(|field| field.name().to_owned());
            (model.name().to_owned(), names.collect())
        });
        let settings = Settings {
            place: Place { table: options.table.clone(), index: options.index.clone(), thing: thing.to_owned() },
            site: db.site(),
            schema: schema.version().to_owned(),
            limit: options.answer,
            name: format!("{:016x}", fastrand::u64(..)),
        };
        let inner = Inner {
            courier: Courier::new(settings),
            pushes: HashMap::new(),
            pages: HashMap::new(),
            refused: None,
            is_told: false,
        };
        Self {
            client,
            up: format!("$aws/rules/{}_sync/sync/{thing}/up", options.table),
            acks: format!("sync/{thing}/ack"),
            fields: fields.collect(),
            inner: RefCell::new(inner),
            wake: bounded(1),
            traffic: Cell::new(0),
        }
    }

    /// Sends and receives until the client ends.
    pub async fn run(&self) -> Error {
        let tasks = LocalExecutor::new();
        tasks.run(self.receive().or(self.send(&tasks))).await
    }

    /// Takes the answers. The subscription is asked for before anything is sent.
    async fn receive(&self) -> Error {
        loop {
            match self.client.listen(&self.acks, QoS::AtLeastOnce).await {
                Ok((answers, _)) => {
                    self.inner.borrow_mut().refused = None;
                    return self.take(&answers).await;
                }
                Err(Error::Closed) => return Error::Closed,
                Err(error) => {
                    let reason = format!("no answers can be had on {}: {error}", self.acks);
                    log::error!("{reason}");
                    self.inner.borrow_mut().refused = Some(reason);
                    self.wake();
                }
            }
            Timer::after(REFUSED).await;
        }
    }

    async fn take(&self, answers: &Listener) -> Error {
        while let Some(message) = answers.next().await {
            self.count(&message.payload);
            let mut inner = self.inner.borrow_mut();
            let Err(reason) = inner.courier.received(&message.payload, Instant::now()) else {
                self.wake();
                continue;
            };
            if !inner.is_told {
                inner.is_told = true;
                log::warn!("a message on {} is no answer, and passed over as all that follow: {reason}", self.acks);
            }
        }
        Error::Closed
    }

    /// Does what the courier wants.
    async fn send<'a>(&'a self, tasks: &LocalExecutor<'a>) -> Error {
        let mut publishing: HashMap<String, Task<()>> = HashMap::new();
        let mut alarm = Alarm::default();
        loop {
            while let Some(action) = self.next_action() {
                if let Action::Send { id, message } = action {
                    publishing.insert(id.clone(), tasks.spawn(self.publish(id, message)));
                } else {
                    self.answer(action);
                }
            }
            let deadline = {
                let courier = &self.inner.borrow().courier;
                // What was given up is not to be sent any more.
                publishing.retain(|id, _| courier.is_sent(id));
                courier.deadline()
            };
            let timer = poll_fn(|cx| deadline.map_or(Poll::Pending, |deadline| alarm.poll(cx, deadline)));
            let woken = async {
                let _ = self.wake.1.recv().await;
            };
            woken.or(timer).await;
        }
    }

    fn next_action(&self) -> Option<Action> {
        let mut inner = self.inner.borrow_mut();
        let is_connected = self.client.is_connected() && inner.refused.is_none();
        inner.courier.poll(Instant::now(), is_connected)
    }

    async fn publish(&self, id: String, message: Vec<u8>) {
        self.count(&message);
        // That the broker has it says nothing; that it never will says enough.
        if let Err(error) = self.client.publish(self.up.as_str(), message).await {
            self.inner.borrow_mut().courier.unsent(&id, &error.to_string());
            self.wake();
        }
    }

    fn answer(&self, action: Action) {
        let mut inner = self.inner.borrow_mut();
        match action {
            Action::Answered(push, answer) => {
                if let Some(sender) = inner.pushes.remove(&push) {
                    let _ = sender.try_send(answer);
                }
            }
            Action::Read(query, page) => {
                if let Some(sender) = inner.pages.remove(&query) {
                    let _ = sender.try_send(page);
                }
            }
            Action::Send { .. } => {}
        }
    }

    fn hand_in(&self, push: Push) -> HandedIn<'_> {
        let id = push.id;
        let (sender, answer) = bounded(1);
        {
            let fields = self.fields.get(&push.row.model).map_or(&[][..], Vec::as_slice);
            let mut inner = self.inner.borrow_mut();
            inner.courier.push(push, fields, Instant::now());
            inner.pushes.insert(id, sender);
        }
        self.wake();
        HandedIn { answer, _interest: Interest { transport: self, push: Some(id), query: None } }
    }

    fn count(&self, message: &[u8]) {
        self.traffic.set(self.traffic.get() + message.len() as u64);
    }

    fn wake(&self) {
        // One that is not taken yet says the same.
        let _ = self.wake.0.try_send(());
    }
}

impl Transport for &MqttTransport {
    async fn push(&self, push: Push) -> Answer {
        self.hand_in(push).answer().await
    }

    /// They are gathered into messages anyway.
    async fn push_batch(&self, pushes: Vec<Push>) -> Vec<Answer> {
        let handed_in: Vec<_> = pushes.into_iter().map(|push| self.hand_in(push)).collect();
        let mut answers = Vec::new();
        for handed_in in handed_in {
            answers.push(handed_in.answer().await);
        }
        answers
    }

    fn traffic(&self) -> u64 {
        self.traffic.get()
    }

    async fn pull(&self, query: &Query) -> Result<Page, String> {
        let (sender, page) = bounded(1);
        {
            let mut inner = self.inner.borrow_mut();
            inner.courier.ask(query.clone());
            inner.pages.insert(query.id, sender);
        }
        self.wake();
        let _interest = Interest { transport: self, push: None, query: Some(query.id) };
        page.recv().await.unwrap_or_else(|_| Err("the transport ended".to_owned()))
    }
}

/// A push on its way.
struct HandedIn<'a> {
    answer: Receiver<Answer>,
    _interest: Interest<'a>,
}

impl HandedIn<'_> {
    async fn answer(self) -> Answer {
        self.answer.recv().await.unwrap_or_else(|_| Answer::Failed("the transport ended".to_owned()))
    }
}

/// Somebody waits for an answer, until this is dropped.
struct Interest<'a> {
    transport: &'a MqttTransport,
    push: Option<u64>,
    query: Option<u64>,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut inner = self.transport.inner.borrow_mut();
        if let Some(push) = self.push {
            inner.pushes.remove(&push);
            inner.courier.forget_push(push);
        }
        if let Some(query) = self.query {
            inner.pages.remove(&query);
            inner.courier.forget_question(query);
        }
    }
}
