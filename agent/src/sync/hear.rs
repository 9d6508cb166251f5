//! Hints over MQTT.

use smol::future::FutureExt;

use super::hint::Hint;
use super::state::State;
use crate::mqtt::{Client, Error, QoS};

/// Takes the hints for `thing`, if it wants them, and tells `state` of them, and of each connection to the broker, for hints are
/// not kept for those who are away. Ends when the client does.
pub async fn hear(client: &Client, thing: &str, wants_hints: bool, state: &State) -> Error {
    let connections = async {
        let mut known = 0;
        loop {
            match client.connected(known).await {
                Ok(connects) => known = connects,
                Err(error) => return error,
            }
            state.connected();
        }
    };
    let hints = async {
        match wants_hints {
            true => listen(client, &format!("sync/{thing}/dirty"), state).await,
            false => std::future::pending().await,
        }
    };
    connections.or(hints).await
}

async fn listen(client: &Client, topic: &str, state: &State) -> Error {
    let hints = match client.listen(topic, QoS::AtLeastOnce).await {
        Ok((hints, _)) => hints,
        Err(Error::Closed) => return Error::Closed,
        Err(error) => {
            log::error!("no hints of changes in the cloud, which is asked now and then only: {topic}: {error}");
            return std::future::pending().await;
        }
    };
    let mut is_told = false;
    while let Some(message) = hints.next().await {
        match Hint::parse(&message.payload) {
            Ok(hint) => state.hint(&hint),
            Err(reason) if !is_told => {
                is_told = true;
                log::warn!("a message on {topic} is no hint, and passed over as all that follow: {reason}");
            }
            Err(_) => {}
        }
    }
    Error::Closed
}
