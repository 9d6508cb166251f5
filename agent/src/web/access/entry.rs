//! One request on its way into the log.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::Record;
use crate::config::AccessLog;
use crate::http1::Version;
use crate::net::utc_ms;
use crate::web::auth::Account;
use crate::web::link::Tally;
use crate::web::local::Local;
use crate::web::shared::Shared;
use crate::web::{Exchange, Peer};

/// The status of a request whose client went away before it was answered; no client ever sees it.
const GONE: u16 = 499;

/// A request at work. At its end, the line is written.
pub(in crate::web) struct Entry {
    shared: Arc<Shared>,
    local: Rc<Local>,
    tally: Rc<Tally>,
    started: Instant,
    peer: Peer,
    secure: bool,
    user: Option<Arc<Account>>,
    version: Version,
    /// Method, target, referrer, agent and host, in one piece.
    text: String,
    parts: [Option<(u32, u32)>; 5],
}

/// Begins the line of a request that was handled; `None` when it is not wanted.
pub(in crate::web) fn begin(exchange: &Exchange, started: Instant) -> Option<Box<Entry>> {
    let shared = &exchange.shared;
    shared.access.as_ref()?;
    if is_excluded(&shared.settings.access_log, &exchange.path) {
        return None;
    }
    let (head, mut text, mut parts) = (&exchange.head, String::with_capacity(256), [None; 5]);
    let fields = [
        Some(head.method.as_str()),
        Some(head.target.as_str()),
        exchange.header("referer"),
        exchange.header("user-agent"),
        exchange.header("host"),
    ];
    for (part, field) in parts.iter_mut().zip(fields) {
        *part = field.map(|field| {
            let start = text.len();
            text.push_str(field);
            (start as u32, text.len() as u32)
        });
    }
    Some(Box::new(Entry {
        shared: shared.clone(),
        local: exchange.local.clone(),
        tally: exchange.transfer.borrow().link.tally(),
        started,
        peer: exchange.peer,
        secure: exchange.secure,
        user: exchange.user.clone(),
        version: head.version,
        text,
        parts,
    }))
}

impl Drop for Entry {
    fn drop(&mut self) {
        let [method, target, referer, agent, host] =
            self.parts.map(|part| self.text.get(part?.0 as usize..part?.1 as usize));
        let duration = self.started.elapsed();
        let (status, bytes) = self.tally.take();
        let record = Record {
            at: utc_ms() - duration.as_millis() as i64,
            address: address(self.peer),
            user: self.user.as_ref().map(|user| user.name()),
            request: method.zip(target).map(|(method, target)| (method, target, self.version.as_str())),
            status: if status == 0 { GONE } else { status },
            bytes,
            duration,
            secure: self.secure,
            referer,
            agent,
            host,
        };
        write(&self.shared, &self.local, &record);
    }
}

/// Writes the line of a request that was refused before it was understood.
pub(in crate::web) fn refused(shared: &Shared, local: &Local, (peer, secure): (Peer, bool), status: u16) {
    if shared.access.is_none() {
        return;
    }
    let record = Record {
        at: utc_ms(),
        address: address(peer),
        user: None,
        request: None,
        status,
        bytes: 0,
        duration: Duration::ZERO,
        secure,
        referer: None,
        agent: None,
        host: None,
    };
    write(shared, local, &record);
}

fn write(shared: &Shared, local: &Local, record: &Record) {
    let Some(writer) = &shared.access else { return };
    let settings = &shared.settings.access_log;
    let pot = local.access.get_or_init(|| writer.pot());
    pot.add(|out| record.write(settings.format, settings.query, out));
}

fn address(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(address) => Some(address.ip().to_canonical()),
        Peer::Unix => None,
    }
}

fn is_excluded(settings: &AccessLog, path: &str) -> bool {
    settings.exclude.iter().any(|excluded| match excluded.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None if excluded.ends_with('/') && excluded.len() > 1 => path.starts_with(excluded),
        None => path == excluded,
    })
}
