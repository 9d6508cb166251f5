//! The configuration: JSON5 files in layers, blended by profile, read into typed sections, every error with its place.
//!
//! [`load`] does all of it. Layers, later wins: the defaults of the image (`/usr/share/ioto`), the integrator's directory
//! (`/etc/ioto`, `--config`), its drop-ins (`ioto.d/*.json5`, sorted), what the agent wrote itself (`STATE/config`), `IOTO_*`
//! of the environment, the command line. In each directory `ioto.json5` comes first, then `web.json5` (section `web`, or a
//! whole configuration when it has a key `web`), `device.json5` (section `device`) and, as the last word, `local.json5`.

mod access_log;
mod auth;
mod aws;
mod blend;
mod ciphers;
mod cron;
mod database;
mod device;
mod directories;
mod effective;
mod environment;
mod foreign;
pub mod json5;
mod layers;
mod listen;
mod live;
mod load;
mod log;
mod log_sources;
mod logs;
mod mqtt;
mod mqtt_url;
mod node;
mod origin;
mod outbound;
mod problem;
mod proxy;
mod queue;
mod redirect;
mod role_alias;
mod roles;
mod root;
mod sandbox;
mod secret;
mod section;
mod services;
mod signatures;
mod sync;
mod timeouts;
mod tls;
mod units;
mod unread;
mod web;
mod web_limits;
mod will;

pub use self::access_log::{AccessFormat, AccessLog, AccessTarget};
pub use self::auth::{Auth, AuthAlgorithm, AuthType, CertificateUser, SessionStorage, Sessions, Token, User};
pub use self::aws::Aws;
#[cfg(feature = "db")]
pub(crate) use self::blend::blend;
pub use self::ciphers::CIPHERS;
pub use self::cron::Cron;
pub use self::database::{Database, SizePolicy};
pub use self::device::Device;
pub use self::directories::Directories;
pub use self::effective::{Effective, Entry};
pub use self::environment::PREFIX as ENVIRONMENT_PREFIX;
pub use self::listen::{Listen, Scheme};
pub use self::live::{WebSockets, WebUpload};
pub use self::load::{Invocation, Loaded, load};
pub use self::log::{Log, LogFormat, LogTarget};
pub use self::log_sources::{
    FilesSource, JournalSource, KernelSource, LineBegin, LogFilter, LogSource, LogSourceKind, LogStart,
};
pub use self::logs::{Logs, LogsSpool, SinkKind, SinkUrl};
pub use self::mqtt::{Mqtt, MqttProfile, MqttSchedule, Subscription};
pub use self::mqtt_url::MqttUrl;
pub use self::node::{Member, Node, Value};
pub use self::origin::{Origin, Source};
pub use self::outbound::OutboundProxy;
pub use self::problem::{Problem, Problems};
pub use self::proxy::{Proxies, Proxy, ProxyTarget};
pub use self::queue::{QueueLimits, QueuePolicy};
pub use self::redirect::{Place, Redirect};
pub use self::role_alias::RoleAlias;
pub use self::roles::Roles;
pub use self::root::{Config, Profile};
pub use self::sandbox::{Sandbox, SandboxSwitch};
pub use self::secret::Secret;
pub use self::services::Services;
pub use self::signatures::WebSignatures;
pub use self::sync::{Sync, SyncTransport};
pub use self::timeouts::Timeouts;
pub use self::tls::{ClientCertificates, Tls, TlsCertificate};
pub use self::units::{FOREVER, UNLIMITED};
#[cfg(feature = "db")]
pub(crate) use self::units::{show_size as write_size, size as read_size};
pub use self::web::{Cache as WebCache, Route, Web};
pub use self::web_limits::{Limits as WebLimits, Timeouts as WebTimeouts};
pub use self::will::Will;
