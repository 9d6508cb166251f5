//! `web.webSockets` and `web.upload`: what goes on beyond one request and its response.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::Directories;
use super::node::quote;
use super::section::{Section, text};
use super::units::FOREVER;

/// `web.webSockets`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSockets {
    /// `enable`: actions may take WebSockets; otherwise such requests get 403.
    pub enable: bool,
    /// `protocol`: the sub-protocol of actions that name none themselves. A client that offers others gets none.
    pub protocol: String,
    /// `ping`: after so long without a byte from the client it is pinged; `never`: not at all. Make it shorter than
    /// `web.timeouts.inactivity`, which ends a WebSocket on which nothing moves.
    pub ping: Duration,
}

impl Default for WebSockets {
    fn default() -> Self {
        Self { enable: true, protocol: "chat".into(), ping: Duration::from_secs(20) }
    }
}

impl WebSockets {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        if !s.flag("validateUTF", true) {
            // Texts are always checked (RFC 6455 §8.1): an action gets no broken ones.
            s.no_effect("validateUTF");
        }
        Self {
            enable: s.flag("enable", d.enable),
            protocol: s.value(
                "protocol",
                d.protocol,
                |protocol| Json::from(protocol.as_str()),
                |node| {
                    let protocol = text(node)?;
                    match protocol.is_empty() || super::web::is_token(&protocol) {
                        true => Ok(protocol),
                        false => Err(format!("expected the name of a sub-protocol, found {}", quote(&protocol))),
                    }
                },
            ),
            ping: s.duration("ping", Duration::from_millis(100)..=FOREVER, d.ping),
        }
    }
}

/// `web.upload`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUpload {
    /// `dir`: where uploaded files are until their request ends, `@state/tmp` by default. It is made when it is missing.
    pub dir: PathBuf,
    /// `remove`: those that the action did not take are removed then.
    pub remove: bool,
}

impl Default for WebUpload {
    fn default() -> Self {
        Self { dir: "/var/lib/ioto/tmp".into(), remove: true }
    }
}

impl WebUpload {
    pub(super) fn read(s: &Section, directories: &Directories) -> Self {
        Self { dir: s.path("dir", &directories.state.join("tmp")), remove: s.flag("remove", true) }
    }
}
