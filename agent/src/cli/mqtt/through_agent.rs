//! Through the running agent, over its socket: with its connection, its rights and its queue.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ioto::api::{Client, ClientError, percent_encode};
use ioto::http1::Method;
use ioto::mqtt::{Message, QoS};
use ioto::net::base64;
use serde_json::{Value, json};

use super::super::output::complain;
use super::payloads::Payloads;
use super::{Failure, Publication, Subscription, timed_out};

/// Publishes all payloads, one after the other.
pub fn publish(client: &Client, order: &Publication, mut payloads: Payloads) -> Result<(), Failure> {
    let until = order.timeout.map(|timeout| Instant::now() + timeout);
    while let Some(payload) = payloads.next()? {
        let patient = match (until, order.timeout) {
            (Some(until), Some(timeout)) => match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(timed_out(timeout)),
                left => client.clone().patience(left),
            },
            _ => client.clone(),
        };
        let body = json!({
            "topic": order.topic, "payload": base64::encode(&payload), "qos": order.qos.number(), "retain": order.retain,
            "priority": order.priority.name(), "durable": order.durable, "wait": order.wait,
        });
        match patient.request(Method::Post, "/api/mqtt", Some(&body)) {
            Ok((status @ (202 | 204), _)) if order.debug => {
                complain(if status == 202 { "queued" } else { "published" });
            }
            Ok((202 | 204, _)) => {}
            Ok((status, answer)) => return Err(refusal(status, &answer)),
            Err(error) => return Err(not_asked(&error)),
        }
    }
    Ok(())
}

/// Shows what comes.
pub fn subscribe(client: &Client, mut order: Subscription) -> Result<(), Failure> {
    if let Some(timeout) = order.timeout {
        std::thread::spawn(move || {
            std::thread::sleep(timeout);
            complain(&format!("ioto: {}", timed_out(timeout).0));
            std::process::exit(1);
        });
    }
    let filters = order.filters.iter().map(|filter| format!("filter={}", percent_encode(filter)));
    let target = format!("/api/mqtt?{}&qos={}", filters.collect::<Vec<_>>().join("&"), order.qos.number());
    let mut outcome = Ok(());
    let mut is_over = false;
    let answer = client.events(&target, |data| {
        if data.is_empty() {
            if order.debug {
                complain("subscribed");
            }
            return ControlFlow::Continue(());
        }
        let step = message(data).ok_or_else(|| Failure("the agent sent no message".into()));
        match step.and_then(|message| order.show(&message)) {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            other => {
                is_over = true;
                outcome = other.map(|_| ());
                ControlFlow::Break(())
            }
        }
    });
    match answer {
        Ok(None) if is_over => outcome,
        Ok(None) => Err(Failure("the agent has stopped".into())),
        Ok(Some((status, answer))) => Err(refusal(status, &answer)),
        Err(error) => Err(not_asked(&error)),
    }
}

fn message(data: &str) -> Option<Message> {
    let data: Value = serde_json::from_str(data).ok()?;
    let qos = QoS::of(data["qos"].as_u64()?)?;
    let payload = base64::decode(data["payload"].as_str()?)?;
    Some(Message { retain: data["retain"].as_bool()?, ..Message::new(data["topic"].as_str()?, payload, qos) })
}

fn not_asked(error: &ClientError) -> Failure {
    match error {
        ClientError::NotRunning => Failure(format!("{error}, or name a broker with -h, or use --direct")),
        error => Failure(error.to_string()),
    }
}

/// The agent's own words.
fn refusal(status: u16, answer: &Value) -> Failure {
    let message = answer.pointer("/error/message").and_then(Value::as_str);
    Failure(message.map_or_else(|| format!("the agent answered {status}; see its log"), str::to_owned))
}
