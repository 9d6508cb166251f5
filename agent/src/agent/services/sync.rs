//! Replication as a service.

use serde_json::{Map, Value, json};
use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::aws::{Api, DynamoDb};
use crate::config::Config;
use crate::net;
use crate::sync::{Handle, Replicator, Table};

/// Plans replication if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, handles: &Handles) {
    if config.services.sync {
        let (config, id, handles) = (config.clone(), id.to_owned(), handles.clone());
        plan.add(Service::new("sync", move |stop, report| {
            run(config.clone(), id.clone(), handles.clone(), stop, report)
        }));
    }
}

/// Replicates until the stop.
async fn run(config: Config, device: String, handles: Handles, stop: Stop, report: Report) -> Result<(), ServiceError> {
    let Some(db) = handles.db.get() else { return Err("the database is not up".into()) };
    let dynamo = DynamoDb::new(Api::new(&config.aws)?);
    let table = Table::new(dynamo, &config.sync.table, &device, &db);
    let replicator = Replicator::new(db, table, &config.sync, &device);
    let handle = replicator.handle();
    report.figures(move || figures(handle.clone()));
    report.running();
    let stopped = async {
        stop.requested().await;
        Ok(())
    };
    let running = async {
        match replicator.run().await {
            Err(error) => Err(error.into()),
        }
    };
    stopped.or(running).await
}

async fn figures(handle: Handle) -> Map<String, Value> {
    let figures = match handle.state().await {
        Ok(state) => json!({
            "backlog": state.backlog,
            "oldestSeconds": state.oldest.map(|age| age.as_secs()),
            "pushed": state.pushed,
            "sent": state.sent,
            "conflicts": state.conflicts,
            "parked": state.parked,
            "down": state.down,
            "lastSuccess": state.last_success.map(net::iso8601),
            "lastError": state.error,
        }),
        Err(error) => json!({"lastError": error.to_string()}),
    };
    figures.as_object().cloned().unwrap_or_default()
}
