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
use crate::config::Config;
#[cfg(feature = "mqtt")]
use crate::sync;
use crate::sync::{DynamoTransport, Replicator, State};
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
    let dynamo = DynamoDb::new(Api::new(&config.aws, &device)?);
    let transport = DynamoTransport::new(dynamo, &config.sync, &device, &db);
    let replicator = Replicator::new(db, transport, &config.sync, &device);
    let state = replicator.state();
    report.figures({
        let state = state.clone();
        move || state.figures()
    });
    report.running();
    let stopped = async {
        stop.requested().await;
        Ok(())
    };
    let failed = async { Err(replicator.run().await.into()) };
    stopped.or(failed).or(hear(&config, &device, &handles, &state)).await
}

/// Takes hints for as long as the agent runs, where there is a client for them.
#[cfg(feature = "mqtt")]
async fn hear(config: &Config, device: &str, handles: &Handles, state: &State) -> Result<(), ServiceError> {
    if !config.services.mqtt {
        return std::future::pending().await;
    }
    loop {
        if let Some(client) = handles.mqtt.get() {
            let end = sync::hear(&client, device, state).await;
            log::debug!("no hints until the client is there again: {end}");
        }
        // It is about to start, or failed: the service that runs it starts it again.
        Timer::after(CLIENT).await;
    }
}

#[cfg(not(feature = "mqtt"))]
async fn hear(_: &Config, _: &str, _: &Handles, _: &State) -> Result<(), ServiceError> {
    std::future::pending().await
}
