//! The MQTT client as a service: keeps the connection, takes the messages of the configured filters.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use smol::future::FutureExt;

use crate::agent::plan::{Executor, Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::config::{self, Config};
use crate::mqtt::{self, Client, Message, Options, QoS};
use crate::system::sandbox::Needs;

/// The topic of the last message that the configured filters brought.
type LastTopic = Arc<Mutex<Option<String>>>;

/// Plans the client if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, executor: &Executor) {
    if config.services.mqtt {
        let (settings, id, executor) = (config.mqtt.clone(), id.to_owned(), executor.clone());
        let start = move |stop, report| run(settings.clone(), id.clone(), executor.clone(), stop, report);
        plan.add(Service::new("mqtt", start));
    }
}

/// Certificates and a key.
pub fn needs(needs: &mut Needs, config: &Config) {
    let settings = &config.mqtt;
    if config.services.mqtt {
        for file in [&settings.authority, &settings.certificate, &settings.key].into_iter().flatten() {
            needs.file(file);
        }
    }
}

/// Runs the client until the stop.
async fn run(
    settings: config::Mqtt,
    device: String,
    executor: Executor,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    let (client, connection) = mqtt::new(Options::from_config(&settings, &device)?);
    let last = LastTopic::default();
    report.figures({
        let (client, last) = (client.clone(), last.clone());
        move || figures(&client, &last)
    });
    report.running();

    let subscribing = |wanted| executor.spawn(subscribe(client.clone(), wanted, last.clone()));
    let _subscriptions: Vec<_> = settings.subscribe.into_iter().map(subscribing).collect();
    let closing = async {
        stop.requested().await;
        client.close();
        std::future::pending().await
    };
    connection.run().or(closing).await;
    Ok(())
}

/// Takes the messages of one filter: they are logged, and the last topic is shown in the status.
async fn subscribe(client: Client, wanted: config::Subscription, last: LastTopic) {
    let qos = if wanted.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let handler = async move |message: Message| {
        log::info!("message on {}: {} bytes", message.topic, message.payload.len());
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.topic);
    };
    match client.subscribe(&wanted.filter, qos, handler).await {
        Ok(granted) => log::info!("subscribed to {} with {granted:?}", wanted.filter),
        Err(error) => log::error!("the subscription to {} failed: {error}", wanted.filter),
    }
}

fn figures(client: &Client, last: &LastTopic) -> Map<String, Value> {
    let state = client.state();
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let figures = json!({
        "connected": state.connected,
        "connects": state.connects,
        "sent": state.sent,
        "received": state.received,
        "queued": state.queued,
        "inFlight": state.in_flight,
        "lost": state.lost,
        "subscriptions": state.subscriptions,
        "lastTopic": last,
        "lastError": state.last_error.filter(|_| !state.connected),
    });
    figures.as_object().cloned().unwrap_or_default()
}
