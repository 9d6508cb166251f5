//! `sync`: replication of the database to DynamoDB. Which models take part is said in the schema.

use std::time::Duration;

use super::section::Section;
use super::units::UNLIMITED;

/// How the device speaks with the cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncTransport {
    /// DynamoDB's own requests.
    #[default]
    DynamoDb,
    /// Messages through the broker of `mqtt`, and a function behind it.
    Mqtt,
}

const TRANSPORTS: [(&str, SyncTransport); 2] = [("dynamodb", SyncTransport::DynamoDb), ("mqtt", SyncTransport::Mqtt)];
/// Rows on the way over MQTT, many in a message, unless said otherwise.
const MQTT_WINDOW: usize = 100;

/// Replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// `sync.transport`: `dynamodb` or `mqtt`.
    pub transport: SyncTransport,
    /// `sync.answer`: how long the answer to a message of the transport `mqtt` may take.
    pub answer: Duration,
    /// `sync.table`: the DynamoDB table, keys `pk` and `sk`, both strings. With the transport `mqtt` also the beginning of the
    /// name of the topic rule, `TABLE_sync`.
    pub table: String,
    /// `sync.window`: requests of the transport `dynamodb` on the way at a time, which have one row each, or 25 of a journal; or rows
    /// on the way over MQTT.
    pub window: usize,
    /// `sync.delay`: how long a change waits for a later one of the same row before it is sent.
    pub delay: Duration,
    /// `sync.index`: the table's index of the changes that others make, keys `gpk` and `_ts`, both strings, with all attributes.
    /// Empty: there is none, and models that come from the cloud are read as a whole each time.
    pub index: String,
    /// `sync.pull`: how often the cloud is asked for changes.
    pub pull: Duration,
    /// `sync.budget`: bytes that may be sent and received in 24 hours, about; [`UNLIMITED`]: no bound. What waits then waits on.
    pub budget: u64,
    /// `sync.resync`: how often models that come from the cloud are read as a whole.
    pub resync: Duration,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            transport: SyncTransport::DynamoDb,
            answer: Duration::from_secs(70),
            table: String::new(),
            window: 8,
            delay: Duration::ZERO,
            index: "changes".into(),
            pull: Duration::from_secs(5 * 60),
            budget: UNLIMITED,
            resync: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Sync {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let transport = s.choice("transport", &TRANSPORTS, d.transport);
        let window = if transport == SyncTransport::Mqtt { MQTT_WINDOW } else { d.window };
        Self {
            transport,
            answer: s.duration("answer", Duration::from_secs(1)..=Duration::from_secs(10 * 60), d.answer),
            table: s.text("table", &d.table),
            window: s.count("window", 1..=500, window),
            delay: s.duration("delay", Duration::ZERO..=Duration::from_secs(24 * 60 * 60), d.delay),
            index: s.text("index", &d.index),
            pull: s.duration("pull", Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60), d.pull),
            budget: s.size("budget", 10_000..=UNLIMITED, d.budget),
            resync: s.duration("resync", Duration::from_secs(60)..=Duration::from_secs(80 * 24 * 60 * 60), d.resync),
        }
    }
}
