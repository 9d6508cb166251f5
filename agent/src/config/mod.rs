//! The configuration: JSON5 files in layers, blended by profile, read into typed sections, every error with its place.

mod aws;
mod database;
mod device;
mod directories;
mod log;
mod mqtt;
mod secret;
mod services;
mod sync;
mod tls;
mod web;

pub use self::aws::Aws;
pub use self::database::Database;
pub use self::device::Device;
pub use self::directories::Directories;
pub use self::log::{Log, LogFormat, LogTarget};
pub use self::mqtt::{Mqtt, MqttUrl, Subscription};
pub use self::secret::Secret;
pub use self::services::Services;
pub use self::sync::Sync;
pub use self::tls::Tls;
pub use self::web::{Limits as WebLimits, Listen, Route, Scheme, Timeouts as WebTimeouts, Web};

/// What a device is run as: on a developer's desk, or in the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A developer's machine: the API is open to clients on the same machine.
    Dev,
    /// A device in the field; nothing is open.
    #[default]
    Prod,
}

/// The whole configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `profile`
    pub profile: Profile,
    /// `directories`
    pub directories: Directories,
    /// `services`
    pub services: Services,
    /// `device`
    pub device: Device,
    /// `log`
    pub log: Log,
    /// `tls`: certificate and key of the web server
    pub tls: Tls,
    /// `web`
    pub web: Web,
    /// `database`
    pub database: Database,
    /// `mqtt`
    pub mqtt: Mqtt,
    /// `aws`
    pub aws: Aws,
    /// `sync`
    pub sync: Sync,
}
