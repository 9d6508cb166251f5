//! Reading `process.MODEL` of the schema.

use super::schema::{Enable, Sync};
use super::schema_process::{Caps, Full, Mode, Policy, Priority, Process};
use super::schema_reader::Reader;
use crate::config::{self, Node, Value};

const KNOWN: &[&str] = &["enable", "sync", "mode", "conflict", "priority", "caps", "mem"];
/// Keys that have a meaning in the product whose files can be brought along, and none here.
const IGNORED: &[&str] = &["actions", "delay", "description", "notify", "pending", "show"];

impl Reader {
    pub(super) fn process(&mut self, node: Option<&Node>, model: &str) -> Process {
        let place = format!("process.{model}");
        let mut process = Process::default();
        let Some(node) = node else { return process };
        self.object(node, &place, "an object such as {sync: 'up'}");
        self.only(node, &place, KNOWN, IGNORED);
        let enable = [("both", Enable::Both), ("device", Enable::Device), ("cloud", Enable::Cloud)];
        process.enable = self.choice(node, "enable", &enable, &place).unwrap_or_default();
        let sync = [("none", Sync::None), ("up", Sync::Up), ("down", Sync::Down), ("both", Sync::Both)];
        process.sync = self.choice(node, "sync", &sync, &place).unwrap_or_default();
        let mode = [("items", Mode::Items), ("journal", Mode::Journal)];
        process.mode = self.choice(node, "mode", &mode, &place).unwrap_or_default();
        let policies = [
            ("cloud", Policy::Cloud),
            ("device", Policy::Device),
            ("lww", Policy::Lww),
            ("merge", Policy::Merge),
            ("both", Policy::Both),
        ];
        let usual = if process.sync == Sync::Both { Policy::Cloud } else { Policy::Device };
        process.conflict = self.choice(node, "conflict", &policies, &place).unwrap_or(usual);
        let priorities = [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
        process.priority = self.choice(node, "priority", &priorities, &place).unwrap_or_default();
        process.caps = self.caps(node, "caps", &place);
        process.memory = self.flag(node, "mem", &place);
        self.agree(node, &place, &process);
        process
    }

    /// What cannot be had together.
    fn agree(&mut self, node: &Node, place: &str, process: &Process) {
        if process.enable == Enable::Device && process.sync != Sync::None {
            self.refuse(node, place, "must have `sync: 'none'`, because the model is enabled on the device only");
        }
        if process.memory && process.sync != Sync::None {
            self.refuse(node, place, "must have `sync: 'none'`, because the model is kept in memory only (`mem`)");
        }
        if process.mode == Mode::Journal && process.sync.down() {
            self.refuse(node, place, "must have `sync: 'up'` or 'none', because journals only go up (`mode`)");
        }
        if process.conflict != Policy::Device && process.sync == Sync::Up {
            self.refuse(node, place, "must have `conflict: 'device'`, because nothing comes down with `sync: 'up'`");
        }
    }

    fn caps(&mut self, node: &Node, key: &str, place: &str) -> Caps {
        let Some(node) = node.get(key) else { return Caps::default() };
        let place = format!("{place}, {key}");
        self.object(node, &place, "an object such as {rows: 10000, size: '5MB', policy: 'drop_oldest'}");
        self.only(node, &place, &["rows", "size", "policy"], &["description"]);
        let full = [("block", Full::Block), ("drop_oldest", Full::DropOldest)];
        Caps {
            rows: self.amount(node, "rows", &place),
            bytes: self.amount(node, "size", &place),
            full: self.choice(node, "policy", &full, &place).unwrap_or_default(),
        }
    }

    /// A number of at least one, with the units of sizes; `unlimited` is none.
    fn amount(&mut self, node: &Node, key: &str, place: &str) -> Option<u64> {
        let node = node.get(key)?;
        let read = match &node.value {
            Value::Number(number) => config::read_size(&number.to_string()),
            Value::Text(text) if matches!(text.as_str(), "unlimited" | "infinite") => return None,
            Value::Text(text) => config::read_size(text),
            _ => None,
        };
        let read = read.filter(|amount| *amount > 0);
        if read.is_none() {
            self.expect(Some(node), &format!("{place}, {key}"), "a number of at least 1, such as 10000 or '5MB'");
        }
        read
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::db::Schema;

    fn read(process: &str) -> Result<Process, String> {
        let text = format!("{{process: {{M: {process}}}, models: {{M: {{id: {{type: 'string'}}}}}}}}");
        let schema = Schema::parse(&text, "schema").map_err(|error| error.to_string())?;
        Ok(schema.model("M").unwrap().process().clone())
    }

    #[test]
    fn everything_that_replication_needs_is_read() {
        let text = "{sync: 'both', conflict: 'device', caps: {rows: 100, size: '5MB', policy: 'drop_oldest'}}";
        let process = read(text).unwrap();
        assert_eq!((process.sync, process.conflict), (Sync::Both, Policy::Device));
        assert_eq!(read("{sync: 'both'}").unwrap().conflict, Policy::Cloud);
        assert_eq!(process.caps, Caps { rows: Some(100), bytes: Some(5 << 20), full: Full::DropOldest });
        assert_eq!(read("{}").unwrap(), Process::default());
        assert_eq!(read("{sync: 'up', mode: 'journal'}").unwrap().mode, Mode::Journal);
        assert_eq!(read("{sync: 'up', priority: 'high'}").unwrap().priority, Priority::High);
        assert!(read("{mem: true, caps: {rows: 5}}").unwrap().memory);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_reason() {
        for (text, part) in [
            ("{enable: 'device', sync: 'up'}", "enabled on the device only"),
            ("{mem: true, sync: 'up'}", "kept in memory only"),
            ("{mode: 'journal', sync: 'both'}", "journals only go up"),
            ("{sync: 'up', conflict: 'cloud'}", "nothing comes down"),
            ("{sync: 'up', conflict: 'merge'}", "nothing comes down"),
            ("{caps: {rows: 0}}", "rows: must be a number of at least 1"),
            ("{caps: {policy: 'coalesce'}}", "policy: must be one of 'block', 'drop_oldest'"),
            ("{priority: 'urgent'}", "priority: must be one of 'high', 'normal', 'low'"),
            ("{conflict: 'mine'}", "conflict: must be one of 'cloud', 'device', 'lww', 'merge', 'both'"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
