//! Replication as a service.

use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::aws::{Api, DynamoDb};
use crate::config::Config;
use crate::sync::{DynamoTransport, Replicator};
use crate::system::sandbox::Needs;

/// Plans replication if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, handles: &Handles) {
    if config.services.sync {
        let (config, id, handles) = (config.clone(), id.to_owned(), handles.clone());
        plan.add(Service::new("sync", move |stop, report| {
            run(config.clone(), id.clone(), handles.clone(), stop, report)
        }));
    }
}

/// The certificates of whom to trust.
pub fn needs(needs: &mut Needs, config: &Config) {
    if let (true, Some(file)) = (config.services.sync, &config.aws.authority) {
        needs.file(file);
    }
}

/// Replicates until the stop.
async fn run(config: Config, device: String, handles: Handles, stop: Stop, report: Report) -> Result<(), ServiceError> {
    let Some(db) = handles.db.get() else { return Err("the database is not up".into()) };
    // It has to begin anew when the file does.
    let db = db.pinned();
    let dynamo = DynamoDb::new(Api::new(&config.aws)?);
    let transport = DynamoTransport::new(dynamo, &config.sync, &device, &db);
    let replicator = Replicator::new(db, transport, &config.sync, &device);
    let state = replicator.state();
    report.figures(move || state.figures());
    report.running();
    let stopped = async {
        stop.requested().await;
        Ok(())
    };
    let failed = async { Err(replicator.run().await.into()) };
    stopped.or(failed).await
}
