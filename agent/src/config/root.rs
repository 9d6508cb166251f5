//! The whole configuration.

use super::node::Node;
use super::section::Reader;
use super::{
    AccessTarget, AuthType, Aws, ClientCertificates, Database, Device, Directories, Log, Logs, Mqtt, Route, Sandbox,
    Services, SessionStorage, Sync, SyncTransport, Timeouts, Tls, Web,
};

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
    /// `tls`: the certificates of the web server and of its clients
    pub tls: Tls,
    /// `web`
    pub web: Web,
    /// `database`
    pub database: Database,
    /// `mqtt`
    pub mqtt: Mqtt,
    /// `timeouts`
    pub timeouts: Timeouts,
    /// `aws`
    pub aws: Aws,
    /// `sync`
    pub sync: Sync,
    /// `sandbox`
    pub sandbox: Sandbox,
    /// `logs`: the forwarding of the operating system's logs
    pub logs: Logs,
}

const PROFILES: [(&str, Profile); 2] = [("dev", Profile::Dev), ("prod", Profile::Prod)];

impl Profile {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Prod => "prod",
        }
    }
}

impl Config {
    /// Reads every section of `tree`. The problems are in `reader`; where there are any, the result means nothing.
    pub(super) fn read(tree: &Node, reader: &Reader) -> Self {
        let root = reader.root(tree);
        let profile = root.choice("profile", &PROFILES, Profile::default());
        let version = root.text("version", "");
        let directories = Directories::read(&root.section("directories"), profile, reader);
        let timeouts = root.section("timeouts");
        let tls = Tls::read(&root.section("tls"));
        let web_section = root.section("web");
        let web = Web::read(&web_section, profile, &directories);
        Self {
            profile,
            services: Services::read(&root.section("services")),
            device: Device::read(&root.section("device"), &version),
            log: Log::read(&root.section("log")),
            web: Web { certified: tls.certificate.is_some(), ..web },
            tls,
            database: Database::read(&root.section("database"), &directories),
            mqtt: Mqtt::read(&root.section("mqtt")),
            aws: Aws::read(&root.section("aws"), &timeouts),
            timeouts: Timeouts::read(&timeouts),
            sync: Sync::read(&root.section("sync")),
            sandbox: Sandbox::read(&root.section("sandbox"), &web_section),
            logs: Logs::read(&root.section("logs")),
            directories,
        }
    }

    /// Checks what services need of each other and of other sections.
    pub(super) fn check(&self, tree: &Node, reader: &Reader) {
        let services = reader.root(tree).section("services");
        if self.services.sync && !self.services.database {
            services.problem("sync", "needs the database, expected services.database: true");
        }
        if self.web.access_log.target == AccessTarget::Database && !self.services.database {
            let log = reader.root(tree).section("web").section("accessLog");
            log.problem("path", "needs the database, expected services.database: true");
        }
        if self.services.sync && self.sync.table.is_empty() {
            services.problem("sync", "needs sync.table, the name of the DynamoDB table");
        }
        if self.services.sync && self.sync.transport == SyncTransport::Mqtt && !self.services.mqtt {
            let sync = reader.root(tree).section("sync");
            sync.problem("transport", "needs the MQTT client, expected services.mqtt: true, or transport: 'dynamodb'");
        }
        if self.web.auth.sessions.storage == SessionStorage::Database && !self.services.database {
            let sessions = reader.root(tree).section("web").section("sessions");
            sessions.problem("store", "needs the database, expected services.database: true, or store: 'memory'");
        }
        if self.services.mqtt && self.mqtt.url.host.is_empty() {
            services.problem("mqtt", "needs mqtt.endpoint, the broker as 'mqtts://HOST:PORT'");
        }
        if self.services.logs && self.logs.sink.is_none() {
            match reader.root(tree).has("logs") {
                true => services.problem("logs", "needs logs.sink, where to, as 'syslog+tls://HOST:6514'"),
                // As in the files of another agent, which forwards to a cloud of its own.
                false => services.no_effect("logs"),
            }
        }
        let wants_one = |route: &Route| !route.role.is_empty() && route.auth_type == AuthType::Certificate;
        let (names_some, wants_some) = (!self.web.auth.certificates.is_empty(), self.web.routes.iter().any(wants_one));
        if self.tls.clients == ClientCertificates::Off && (names_some || wants_some) {
            let web = reader.root(tree).section("web");
            let text = "needs tls.verify.client: 'optional', or nobody shows one";
            match names_some {
                true => web.section("auth").problem("certificates", text),
                false => web.problem("routes", format!("authType 'certificate' {text}")),
            }
        }
    }
}
