//! Watching on the web: changes as server-sent events, or over a WebSocket.

use serde_json::{Value, json};
use smol::future;

use crate::db::{Db, Heard, Watch};
use crate::web::{Error, Event, Exchange, Message};

/// Whether the client wants a WebSocket.
pub(super) fn asks_for_socket(exchange: &Exchange) -> bool {
    let wanted = exchange.header("upgrade").unwrap_or_default();
    wanted.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Tells changes until the client goes away.
pub(super) async fn tell(db: &Db, watch: Watch, exchange: &mut Exchange) -> Result<(), Error> {
    // What the client finds after `watching` must not be older than what it hears.
    if let Err(error) = db.written().await {
        return Err(Error::status(503, error.to_string()));
    }
    match asks_for_socket(exchange) {
        true => by_messages(db, &watch, exchange).await,
        false => by_events(db, &watch, exchange).await,
    }
}

/// There are too many. A browser does not tell its page the status of an answer, but the code of a close.
pub(super) async fn turn_away(exchange: &mut Exchange) -> Result<(), Error> {
    let socket = exchange.upgrade(&[]).await?;
    socket.close(1013, "too many watch the database (database.watchers); try again later").await
}

async fn by_events(db: &Db, watch: &Watch, exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    let at = watch.position();
    events.send(&Event { event: Some("watching"), id: Some(&at), ..Event::default() }).await?;
    loop {
        let Some(heard) = events.wait(watch.next()).await? else { return events.finish().await };
        let (kind, data) = describe(db, &heard);
        let at = watch.position();
        events.send(&Event { event: Some(kind), id: Some(&at), ..Event::new(&data.to_string()) }).await?;
    }
}

/// What happens next.
enum Next {
    Heard(Option<Heard>),
    Said(Option<Message>),
}

async fn by_messages(db: &Db, watch: &Watch, exchange: &mut Exchange) -> Result<(), Error> {
    let mut socket = exchange.upgrade(&[]).await?;
    socket.send(json!({"change": "watching", "at": watch.position()}).to_string()).await?;
    loop {
        let said = async { socket.receive().await.map(Next::Said) };
        let heard = async { Ok(Next::Heard(watch.next().await)) };
        match future::or(said, heard).await? {
            Next::Said(None) => return Ok(()),
            Next::Said(Some(_)) => return socket.close(1003, "nothing is expected here: changes are told").await,
            Next::Heard(None) => return socket.close(1012, "the database was closed; connect again").await,
            Next::Heard(Some(heard)) => {
                let (_, mut data) = describe(db, &heard);
                data["at"] = watch.position().into();
                socket.send(data.to_string()).await?;
            }
        }
    }
}

/// The name of what was heard, and all of it.
fn describe(db: &Db, heard: &Heard) -> (&'static str, Value) {
    match heard {
        Heard::Change(change) => (change.kind(), change.to_json(db.schema())),
        Heard::Lost => ("lost", json!({"change": "lost"})),
    }
}
