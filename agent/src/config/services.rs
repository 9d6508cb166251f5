//! `services`: which services run.

/// One switch a service. A service whose Cargo feature was left out of the build cannot be switched on.
#[derive(Clone, Debug)]
pub struct Services {
    /// The web server; on by default.
    pub web: bool,
    /// The database; on by default.
    pub database: bool,
    /// The MQTT client; off by default.
    pub mqtt: bool,
    /// Replication to DynamoDB; off by default, needs `database`.
    pub sync: bool,
}

impl Default for Services {
    fn default() -> Self {
        Self { web: true, database: true, mqtt: false, sync: false }
    }
}
