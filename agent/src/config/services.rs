//! `services`: which services run.

use super::section::Section;

/// One switch a service. A service whose Cargo feature was left out of the build cannot be switched on.
#[derive(Clone, Debug)]
pub struct Services {
    /// `services.web`: the web server; on by default.
    pub web: bool,
    /// `services.database`: the database; on by default.
    pub database: bool,
    /// `services.mqtt`: the MQTT client; off by default.
    pub mqtt: bool,
    /// `services.sync`: replication to DynamoDB; off by default, needs `database`.
    pub sync: bool,
    /// `services.logs`: forwarding of the operating system's logs; off by default, needs `logs.sink`.
    pub logs: bool,
}

// Not derived: what is on by default depends on the build.
#[allow(clippy::derivable_impls)]
impl Default for Services {
    fn default() -> Self {
        Self { web: cfg!(feature = "web"), database: cfg!(feature = "db"), mqtt: false, sync: false, logs: false }
    }
}

impl Services {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            web: built(s, "web", "web", cfg!(feature = "web"), d.web),
            database: built(s, "database", "db", cfg!(feature = "db"), d.database),
            mqtt: built(s, "mqtt", "mqtt", cfg!(feature = "mqtt"), d.mqtt),
            sync: built(s, "sync", "sync", cfg!(feature = "sync"), d.sync),
            logs: built(s, "logs", "logs", cfg!(feature = "logs"), d.logs),
        }
    }
}

/// Reads a switch that can be on only when its Cargo feature is in the build.
fn built(s: &Section, key: &str, feature: &str, built: bool, default: bool) -> bool {
    let on = s.flag(key, default);
    if on && !built {
        s.problem(key, format!("this build is without the Cargo feature `{feature}`, expected false"));
    }
    on
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::section::Reader;
    use super::super::{Source, json5};
    use super::*;

    #[test]
    fn a_service_that_was_left_out_of_the_build_cannot_be_on() {
        let tree = json5::parse("{mqtt: true, sync: false}", &Source::Default).unwrap();
        let reader = Reader::new("/".as_ref());
        let s = reader.root(&tree);
        built(&s, "mqtt", "mqtt", false, false);
        built(&s, "sync", "sync", false, false);
        let (_, problems, _) = reader.finish();
        assert_eq!(problems.to_string(), "mqtt: this build is without the Cargo feature `mqtt`, expected false\n");
    }
}
