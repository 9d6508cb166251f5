//! `database`: the embedded database.

use std::path::PathBuf;
use std::time::Duration;

use super::Directories;
use super::section::Section;
use super::units::{FOREVER, UNLIMITED};

/// `database.policy`: what happens to a write that needs more room than `database.size` leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizePolicy {
    /// `'block'`: it is refused.
    #[default]
    Block,
    /// `'dropOldest'`: the oldest rows of models whose `caps.policy` is `'drop_oldest'` make room, without those that the
    /// cloud has not confirmed yet. Where there are none, it is refused.
    DropOldest,
}

const POLICIES: [(&str, SizePolicy); 2] = [("block", SizePolicy::Block), ("dropOldest", SizePolicy::DropOldest)];
/// `database.size`, at least: SQLite's log alone has 2 MB of it.
const LEAST: u64 = 4 << 20;

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `database.path`: the SQLite file.
    pub path: PathBuf,
    /// `database.schema`: the file of the models. When it is not named, it is `@config/schema.json5` if that is there, else
    /// `schema.json5` of the defaults that the image ships if that is there; without any, this path names no file, and there
    /// are no models.
    pub schema: PathBuf,
    /// `database.service`: how often rows whose time is over are removed.
    pub service: Duration,
    /// `database.key`: the file of the keys that fields with `encrypt` are sealed with.
    pub key: PathBuf,
    /// Whether that file is made when it is not there: it is, unless the configuration names another one.
    pub makes_key: bool,
    /// `database.size`: bytes of the file with its log, at most; [`UNLIMITED`]: no bound. Files that were set aside, backups, and
    /// the copy that a compaction makes for its time are not counted.
    pub size: u64,
    /// `database.policy`: what happens when they are reached.
    pub policy: SizePolicy,
    /// `database.check`: how often the pages of the file are looked through for damage, while it is in use.
    pub check: Duration,
    /// `database.watchers`: streams of changes at a time, at most.
    pub watchers: usize,
    /// `database.commit`: how long a write waits for others to share its commit, at most.
    pub commit: Duration,
    /// `database.queue`: operations that wait for the writer at most; callers beyond it wait.
    pub queue: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: "/var/lib/ioto/db/device.db".into(),
            schema: "/etc/ioto/schema.json5".into(),
            key: "/var/lib/ioto/database.key".into(),
            makes_key: true,
            service: Duration::from_secs(60 * 60),
            size: UNLIMITED,
            policy: SizePolicy::Block,
            check: Duration::from_secs(24 * 60 * 60),
            watchers: 64,
            commit: Duration::from_millis(2),
            queue: 1024,
        }
    }
}

impl Database {
    pub(super) fn read(s: &Section, directories: &Directories) -> Self {
        let d = Self::default();
        let own = directories.state.join("database.key");
        let key = s.path("key", &own);
        Self {
            path: s.path("path", &directories.db.join("device.db")),
            schema: schema(s, directories),
            makes_key: key == own,
            key,
            service: s.duration("service", Duration::from_secs(60)..=FOREVER, d.service),
            size: s.size("size", LEAST..=UNLIMITED, d.size),
            policy: s.choice("policy", &POLICIES, d.policy),
            check: s.duration("check", Duration::from_secs(1)..=FOREVER, d.check),
            watchers: s.count("watchers", 1..=10_000, d.watchers),
            commit: s.duration("commit", Duration::ZERO..=Duration::from_secs(1), d.commit),
            queue: s.count("queue", 1..=65_536, d.queue),
        }
    }
}

fn schema(s: &Section, directories: &Directories) -> PathBuf {
    let own = directories.config.join("schema.json5");
    let shipped = directories.share.join("schema.json5");
    let default = if !own.exists() && shipped.exists() { shipped } else { own };
    let schema = s.path("schema", &default);
    if s.has("schema") && !schema.is_file() {
        s.problem("schema", format!("there is no file `{}`", schema.display()));
    }
    schema
}
