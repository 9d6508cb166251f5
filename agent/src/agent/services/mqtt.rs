//! The MQTT client as a service: keeps the connection, takes the messages of the configured filters.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Executor, Plan, Service};
use crate::agent::slot::Slot;
use crate::agent::{Report, ServiceError, Stop};
use crate::config::{self, Config};
use crate::mqtt::{self, Client, Message, Options, QoS, QueueState};
use crate::net;
use crate::system::sandbox::Needs;

/// Where durable messages wait, in the directory of the state.
const OUTBOX: &str = "mqtt.outbox";

/// How long the client stays away when it is asked to leave.
const CLOSED: Duration = Duration::from_secs(60 * 60);

/// The topic of the last message that the configured filters brought.
type LastTopic = Arc<Mutex<Option<String>>>;

/// Plans the client if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, handles: &Handles, executor: &Executor) {
    if config.services.mqtt {
        let (config, id, executor) = (config.clone(), id.to_owned(), executor.clone());
        let slot = handles.mqtt.clone();
        let start = move |stop, report| run(config.clone(), id.clone(), slot.clone(), executor.clone(), stop, report);
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
        if settings.sign {
            for file in config.aws.files() {
                needs.file(file);
            }
        }
    }
}

/// Runs the client until the stop.
async fn run(
    config: Config,
    device: String,
    slot: Slot<Client>,
    executor: Executor,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    let settings = config.mqtt.clone();
    let options = signed(Options::from_config(&settings, &device)?, &config, &device)?;
    let (client, connection) = mqtt::open(options.outbox(config.directories.state.join(OUTBOX)))?;
    let last = LastTopic::default();
    report.figures({
        let (client, last) = (client.clone(), last.clone());
        move || figures(&client, &last)
    });
    report.running();
    slot.set(Some(client.clone()));

    let subscribing = |wanted| executor.spawn(subscribe(client.clone(), wanted, last.clone()));
    let _subscriptions: Vec<_> = settings.subscribe.into_iter().map(subscribing).collect();
    let _throttle = settings.throttle.map(|filter| executor.spawn(obey(client.clone(), filter)));
    let closing = async {
        stop.requested().await;
        client.close();
        std::future::pending().await
    };
    let hurrying = async { match net::whenever_up(|| client.try_now()).await {} };
    connection.run().or(closing).or(hurrying).await;
    slot.set(None);
    Ok(())
}

/// Has the address of a WebSocket signed, where the configuration wants it.
#[cfg(feature = "aws")]
fn signed(options: Options, config: &Config, device: &str) -> Result<Options, ServiceError> {
    use std::future::Future;
    use std::pin::Pin;

    use crate::aws::WebSocketSigner;
    use crate::http1::Headers;
    use crate::net::utc_ms;

    struct Signer(WebSocketSigner);

    impl mqtt::Signer for Signer {
        fn target<'a>(&'a self, authority: &'a str) -> Pin<Box<dyn Future<Output = Result<String, String>> + 'a>> {
            Box::pin(async move { self.0.target(authority, utc_ms()).await.map_err(|error| error.to_string()) })
        }

        fn learn(&self, authority: &str, answer: &Headers, sent: i64, received: i64) {
            if self.0.learn(authority, answer, sent, received) {
                log::warn!("the device's clock is wrong; the next address is signed with the broker's time");
            }
        }
    }

    match config.mqtt.sign {
        true => Ok(options.signer(Arc::new(Signer(WebSocketSigner::with_config(&config.aws, device)?)))),
        false => Ok(options),
    }
}

#[cfg(not(feature = "aws"))]
fn signed(options: Options, config: &Config, _device: &str) -> Result<Options, ServiceError> {
    match config.mqtt.sign {
        true => Err(mqtt::Error::Options("mqtt.sign needs a build with the Cargo feature `aws`".into()).into()),
        false => Ok(options),
    }
}

/// Slows down when a message of this filter asks for it, and leaves the broker for an hour when that says `close`.
async fn obey(client: Client, filter: String) {
    let own = client.clone();
    let handler = async move |message: Message| {
        let wish: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if wish["close"].as_bool().unwrap_or(false) {
            log::warn!("asked on {} to leave the broker for an hour", message.topic);
            own.pause(CLOSED);
        } else {
            log::warn!("asked on {} to send less", message.topic);
            own.throttle();
        }
    };
    if let Err(error) = client.subscribe(&filter, QoS::AtLeastOnce, handler).await {
        log::error!("the subscription to {filter} failed: {error}");
    }
}

/// Takes the messages of one filter: they are logged, and the last topic is shown in the status.
async fn subscribe(client: Client, wanted: config::Subscription, last: LastTopic) {
    let qos = QoS::of(wanted.qos.into()).unwrap_or(QoS::AtLeastOnce);
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
    let [high, normal, low] = state.queues;
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let figures = json!({
        "connected": state.connected,
        "connects": state.connects,
        "sent": state.sent,
        "received": state.received,
        "queued": state.queued,
        "queues": {"high": queue(high), "normal": queue(normal), "low": queue(low)},
        "inFlight": state.in_flight,
        "lost": state.lost,
        "dropped": {
            "oldest": state.dropped.oldest,
            "newest": state.dropped.newest,
            "coalesced": state.dropped.coalesced,
            "expired": state.dropped.expired,
            "hungUp": state.dropped.hung_up,
            "notStored": state.dropped.not_stored,
        },
        "subscriptions": state.subscriptions,
        "lastTopic": last,
        "lastError": state.last_error.filter(|_| !state.connected),
    });
    figures.as_object().cloned().unwrap_or_default()
}

fn queue(state: QueueState) -> Value {
    let QueueState { messages, bytes, age, dropped } = state;
    json!({"messages": messages, "bytes": bytes, "oldest": age.map(|age| age.as_secs()), "dropped": dropped})
}
