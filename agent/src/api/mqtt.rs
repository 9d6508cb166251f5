//! The agent's MQTT connection for others: `/api/mqtt`.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/mqtt` with `{"topic", "payload", "qos", "retain", "priority", "durable", "wait"}` | 204 when the broker has it, 202 when it is queued (`"wait": false`) |
//! | `GET /api/mqtt?filter=…&filter=…&qos=…` | a stream of events: `subscribed`, then a message each |
//!
//! `"priority"` is `"high"`, `"normal"` or `"low"`; a message that is `"durable"` is on disk before the answer, and survives
//! the end of the agent. Payloads are base64, in both directions; a message is `{"topic", "payload", "qos", "retain"}`. Errors are
//! `{"error": {"code", "message"}}` with 400, 403, 405, 503 or 504.

use std::time::Duration;

use serde_json::{Value, json};
use smol::Timer;
use smol::future::FutureExt;

use super::{Door, guard};
use crate::http1::Method;
use crate::mqtt::{Client, Error as MqttError, Listener, Message, Priority, QoS, Wait};
use crate::net::base64;
use crate::web::{Action, Error, Event, Exchange};

/// How long a request waits for the broker: less than the callers' patience.
const WAIT: Duration = Duration::from_secs(25);

/// Filters of one stream.
const MAX_FILTERS: usize = 16;

/// The action for `/api/mqtt`; `client` gives the connection while there is one. For `door` see [`guard`].
pub fn messages(client: impl Fn() -> Option<Client> + Send + Sync + 'static, door: Door) -> impl Action {
    async move |exchange: &mut Exchange| {
        guard(exchange, door)?;
        exchange.set_header("Cache-Control", "no-store")?;
        let answer = match (client(), exchange.method()) {
            (None, _) => refusal(503, "closed", "the MQTT client is not up; `ioto status` says why"),
            (Some(client), Method::Post) => publish(&client, exchange).await?,
            (Some(client), Method::Get) => match subscribe(&client, exchange).await {
                Ok(listeners) => return stream(&listeners, exchange).await,
                Err(answer) => answer,
            },
            _ => {
                exchange.set_header("Allow", "GET, POST")?;
                refusal(405, "method", "only GET and POST are possible here")
            }
        };
        exchange.set_status(answer.0);
        match answer.1 {
            Value::Null => Ok(()),
            body => exchange.send_json(&body).await,
        }
    }
}

type Answer = (u16, Value);

async fn publish(client: &Client, exchange: &Exchange) -> Result<Answer, Error> {
    let body = exchange.json().await?;
    let message = match message(&body) {
        Ok(message) => message,
        Err(rule) => return Ok(refusal(400, "invalid", rule)),
    };
    let (priority, is_durable) = match treatment(&body) {
        Ok(treatment) => treatment,
        Err(rule) => return Ok(refusal(400, "invalid", rule)),
    };
    let waits = body["wait"].as_bool().unwrap_or(true);
    let wait = if waits { Wait::Ack } else { Wait::None };
    let mut sending = client.send(message).priority(priority).durable(is_durable).wait(wait).into_future();
    let outcome = async { Some((&mut sending).await) }
        .or(async {
            Timer::after(WAIT).await;
            None
        })
        .await;
    Ok(match outcome {
        Some(Ok(())) if waits => (204, Value::Null),
        Some(Ok(())) => (202, json!({"queued": true})),
        Some(Err(error)) => refused(&error),
        None if !sending.is_queued() => {
            refusal(503, "full", "too many messages wait; it was not queued, try again later")
        }
        None => refusal(504, "timeout", "the broker has not acknowledged it yet; it stays queued and goes on its way"),
    })
}

fn treatment(body: &Value) -> Result<(Priority, bool), &'static str> {
    let priority = match &body["priority"] {
        Value::Null => Priority::Normal,
        name => {
            let name = name.as_str().and_then(|name| name.parse().ok());
            name.ok_or("`priority` must be \"high\", \"normal\" or \"low\"")?
        }
    };
    Ok((priority, body["durable"].as_bool().unwrap_or(false)))
}

fn message(body: &Value) -> Result<Message, &'static str> {
    let topic = body["topic"].as_str().ok_or("`topic` must be a text")?;
    let payload = match &body["payload"] {
        Value::Null => Vec::new(),
        payload => payload.as_str().and_then(base64::decode).ok_or("`payload` must be a text in base64")?,
    };
    let qos = match &body["qos"] {
        Value::Null => QoS::AtLeastOnce,
        qos => qos.as_u64().and_then(QoS::of).ok_or("`qos` must be a quality of service that this client speaks")?,
    };
    let retain = body["retain"].as_bool().unwrap_or(false);
    Ok(Message { retain, ..Message::new(topic, payload, qos) })
}

async fn subscribe(client: &Client, exchange: &Exchange) -> Result<Vec<Listener>, Answer> {
    let mut filters = Vec::new();
    let mut qos = QoS::AtMostOnce;
    for (name, value) in exchange.queries() {
        match name.as_str() {
            "filter" if filters.len() < MAX_FILTERS => filters.push(value),
            "filter" => return Err(refusal(400, "invalid", "there are more than 16 filters")),
            "qos" => {
                let known = value.parse().ok().and_then(QoS::of);
                qos = known.ok_or_else(|| refusal(400, "invalid", "`qos` is none that this client speaks"))?;
            }
            _ => return Err(refusal(400, "invalid", "only `filter` and `qos` are known")),
        }
    }
    if filters.is_empty() {
        return Err(refusal(400, "invalid", "a `filter` is missing, as in /api/mqtt?filter=a/%23"));
    }
    let mut listeners = Vec::new();
    for filter in filters {
        let too_late = async {
            Timer::after(WAIT).await;
            Err(None)
        };
        let listening = async { client.listen(&filter, qos).await.map_err(Some) };
        match listening.or(too_late).await {
            Ok((listener, _)) => listeners.push(listener),
            Err(Some(error)) => return Err(refused(&error)),
            Err(None) => return Err(refusal(504, "timeout", "the broker did not answer; is the agent connected?")),
        }
    }
    Ok(listeners)
}

/// Sends what comes until the client goes away.
async fn stream(listeners: &[Listener], exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    events.send(&Event { event: Some("subscribed"), ..Event::default() }).await?;
    loop {
        let next = async {
            let nothing = Box::pin(std::future::pending()) as std::pin::Pin<Box<dyn Future<Output = _>>>;
            listeners.iter().fold(nothing, |others, listener| Box::pin(listener.next().or(others))).await
        };
        let Some(message) = events.wait(next).await? else { return events.finish().await };
        let payload = base64::encode(&message.payload);
        let (qos, retain) = (message.qos.number(), message.retain);
        let data = json!({"topic": message.topic, "payload": payload, "qos": qos, "retain": retain});
        events.send(&Event::new(&data.to_string())).await?;
    }
}

fn refused(error: &MqttError) -> Answer {
    match error {
        MqttError::Closed => refusal(503, "closed", "the MQTT client stops"),
        MqttError::Refused(_) => refusal(403, "refused", &error.to_string()),
        MqttError::Dropped | MqttError::Undelivered(_) => refusal(503, "dropped", &error.to_string()),
        MqttError::Lost | MqttError::QueueFull => refusal(503, "lost", &error.to_string()),
        error => refusal(400, "invalid", &error.to_string()),
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    (status, json!({"error": {"code": code, "message": message}}))
}
