//! Replication as a service.

#[cfg(feature = "mqtt")]
use std::time::Duration;

#[cfg(feature = "mqtt")]
use smol::Timer;
use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::aws::{Api, DynamoDb};
use crate::config::{Config, SyncTransport};
use crate::db::Db;
#[cfg(feature = "mqtt")]
use crate::mqtt::Client;
use crate::net;
#[cfg(feature = "mqtt")]
use crate::sync::{self, MqttTransport};
use crate::sync::{DynamoTransport, Replicator, State, Transport};
use crate::system::sandbox::Needs;

/// How often to look for the MQTT client that is not there.
#[cfg(feature = "mqtt")]
const CLIENT: Duration = Duration::from_millis(200);

/// Plans replication if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, handles: &Handles) {
    if config.services.sync {
        let (config, id, handles) = (config.clone(), id.to_owned(), handles.clone());
        plan.add(Service::new("sync", move |stop, report| {
            run(config.clone(), id.clone(), handles.clone(), stop, report)
        }));
    }
}

/// Certificates and a key.
pub fn needs(needs: &mut Needs, config: &Config) {
    if config.services.sync {
        for file in config.aws.files() {
            needs.file(file);
        }
    }
}

/// Replicates until the stop.
async fn run(config: Config, device: String, handles: Handles, stop: Stop, report: Report) -> Result<(), ServiceError> {
    let Some(db) = handles.db.get() else { return Err("the database is not up".into()) };
    // It has to begin anew when the file does.
    let db = db.pinned();
    let stopped = async {
        stop.requested().await;
        Ok(())
    };
    match config.sync.transport {
        SyncTransport::DynamoDb => {
            let dynamo = DynamoDb::new(Api::new(&config.aws, &device)?);
            let transport = DynamoTransport::new(dynamo, &config.sync, &device, &db);
            let replicating = replicate(&config, &device, &handles, db, transport, report);
            stopped.or(replicating).await
        }
        SyncTransport::Mqtt => stopped.or(by_messages(&config, &device, &handles, db, report)).await,
    }
}

/// Replicates for as long as the database works.
async fn replicate<T: Transport>(
    config: &Config,
    device: &str,
    handles: &Handles,
    db: Db,
    transport: T,
    report: Report,
) -> Result<(), ServiceError> {
    let comes_down = db.schema().models().any(|model| model.sync().down());
    let replicator = Replicator::new(db, transport, &config.sync, device);
    let state = replicator.state();
    report.figures({
        let state = state.clone();
        move || state.figures()
    });
    report.running();
    let failed = async { Err(replicator.run().await.into()) };
    let hurrying = async { match net::whenever_up(|| state.network_came_up()).await {} };
    failed.or(hear(config, device, handles, comes_down, &state)).or(hurrying).await
}

/// Replicates through the MQTT client, which the configuration has where it has this transport.
#[cfg(feature = "mqtt")]
async fn by_messages(
    config: &Config,
    device: &str,
    handles: &Handles,
    db: Db,
    report: Report,
) -> Result<(), ServiceError> {
    let client = client(handles).await;
    let transport = MqttTransport::new(client, &config.sync, device, &db);
    // Anew with the next client.
    let ended = async { Err(transport.run().await.into()) };
    replicate(config, device, handles, db, &transport, report).or(ended).await
}

#[cfg(not(feature = "mqtt"))]
async fn by_messages(_: &Config, _: &str, _: &Handles, _: Db, _: Report) -> Result<(), ServiceError> {
    Err("sync.transport 'mqtt' needs a build with the Cargo feature `mqtt`".into())
}

/// Takes hints for as long as the agent runs, where there is a client for them.
#[cfg(feature = "mqtt")]
async fn hear(
    config: &Config,
    device: &str,
    handles: &Handles,
    comes_down: bool,
    state: &State,
) -> Result<(), ServiceError> {
    if !config.services.mqtt {
        return std::future::pending().await;
    }
    loop {
        let client = client(handles).await;
        let end = sync::hear(&client, device, comes_down, state).await;
        log::debug!("no hints until the client is there again: {end}");
        Timer::after(CLIENT).await;
    }
}

#[cfg(not(feature = "mqtt"))]
async fn hear(_: &Config, _: &str, _: &Handles, _: bool, _: &State) -> Result<(), ServiceError> {
    std::future::pending().await
}

/// The MQTT client, once it is there: it is about to start, or failed, and the service that runs it starts it again.
#[cfg(feature = "mqtt")]
async fn client(handles: &Handles) -> Client {
    loop {
        if let Some(client) = handles.mqtt.get() {
            return client;
        }
        Timer::after(CLIENT).await;
    }
}
