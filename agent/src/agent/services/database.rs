//! The database as a service: open it, remove what has expired from time to time, close it.

use serde_json::{Map, Value};
use smol::Timer;
use smol::future::FutureExt;

use super::Handles;
use crate::agent::plan::{Plan, Service};
use crate::agent::slot::Slot;
use crate::agent::{Error, Report, ServiceError, Stop};
use crate::config::{self, Config};
use crate::db::{Db, Schema};
use crate::net;
use crate::system::sandbox::Needs;

/// Reads the schema, and plans the database if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, handles: &mut Handles) -> Result<(), Error> {
    if !config.services.database {
        return Ok(());
    }
    handles.has_db = true;
    let path = &config.database.schema;
    if path.is_file() {
        handles.schema = Schema::load(path).map_err(Error::Schema)?.with_context("deviceId", id);
    }
    let (settings, schema, slot) = (config.database.clone(), handles.schema.clone(), handles.db.clone());
    let start = move |stop, report| run(settings.clone(), schema.clone(), slot.clone(), stop, report);
    plan.add(Service::new("database", start));
    Ok(())
}

/// The database, its journal beside it, and the models.
pub fn needs(needs: &mut Needs, config: &Config) {
    if config.services.database {
        let path = &config.database.path;
        needs.write(path.parent().unwrap_or(path)).file(&config.database.schema).file(&config.database.key);
    }
}

/// Runs the database until the stop; its handle is in `slot` meanwhile.
async fn run(
    settings: config::Database,
    schema: Schema,
    slot: Slot<Db>,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    // It waits for a lock, or checks a file that was not closed, for seconds: not on the executor.
    let path = settings.clone();
    let opening = async { Some(smol::unblock(move || Db::open(&path, schema)).await) };
    let stopped = async {
        stop.requested().await;
        None
    };
    let Some(db) = opening.or(stopped).await.transpose()? else { return Ok(()) };
    slot.set(Some(db.clone()));
    // Not the database itself: it would not be closed as long as the board has it.
    let shown = slot.clone();
    report.figures(move || shown.get().map(|db| figures(&db)).unwrap_or_default());
    report.running();
    stop.requested().or(sweep(&db, &settings)).or(look_over(&db, &settings)).await;
    slot.set(None);
    db.close().await;
    Ok(())
}

/// The bytes of the file, and what is not as it should be.
fn figures(db: &Db) -> Map<String, Value> {
    let mut figures = Map::from_iter([("file".to_owned(), db.file_size().into())]);
    figures.extend(db.limit().map(|limit| ("limit".to_owned(), limit.into())));
    figures.extend(db.health().to_json());
    figures
}

/// Looks for damage at intervals, for ever: what nobody reads would go on to be damaged unseen.
async fn look_over(db: &Db, settings: &config::Database) {
    loop {
        Timer::after(settings.check).await;
        match db.look_over().await {
            Ok(true) => log::debug!("the database was looked through: sound"),
            Ok(false) => {}
            Err(error) => log::warn!("the database could not be looked through, it is tried again later: {error}"),
        }
    }
}

/// Removes expired rows at intervals, for ever.
async fn sweep(db: &Db, settings: &config::Database) {
    loop {
        match db.sweep(net::utc_ms()).await {
            Ok(0) => log::debug!("no row has expired"),
            Ok(count) => log::info!("removed {count} expired rows"),
            Err(error) => log::warn!("expired rows could not be removed, they are tried again later: {error}"),
        }
        if let Err(error) = db.shrink().await {
            log::warn!("the database is larger than its bound and could not be compacted: {error}");
        }
        Timer::after(settings.service).await;
    }
}
