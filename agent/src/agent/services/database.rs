//! The database as a service: open it, remove what has expired from time to time, close it.

use smol::Timer;
use smol::future::FutureExt;

use crate::agent::slot::Slot;
use crate::agent::{Report, ServiceError, Stop};
use crate::config;
use crate::db::{Db, Schema};
use crate::net;

/// Runs the database until the stop; its handle is in `slot` meanwhile.
pub async fn run(
    settings: config::Database,
    schema: Schema,
    slot: Slot<Db>,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    let db = Db::open(&settings, schema)?;
    slot.put(db.clone());
    report.running();
    stop.requested().or(sweep(&db, &settings)).await;
    slot.clear();
    db.close().await;
    Ok(())
}

/// Removes expired rows at intervals, for ever.
async fn sweep(db: &Db, settings: &config::Database) {
    loop {
        match db.sweep(net::utc_ms()).await {
            Ok(0) => log::debug!("no row has expired"),
            Ok(count) => log::info!("removed {count} expired rows"),
            Err(error) => log::warn!("expired rows could not be removed, they are tried again later: {error}"),
        }
        Timer::after(settings.service).await;
    }
}
