//! `directories`: where things are on the device. Each may be written with the path tokens `@state @config @db @certs @site`.

use std::path::PathBuf;

/// The directories of the agent, absolute.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Defaults that the image ships, read-only.
    pub share: PathBuf,
    /// The integrator's configuration (`--config`), token `@config`.
    pub config: PathBuf,
    /// The only place that is written, besides `run` (`--state`), token `@state`.
    pub state: PathBuf,
    /// The database, token `@db`.
    pub db: PathBuf,
    /// Keys and certificates, token `@certs`.
    pub certs: PathBuf,
    /// The web pages, token `@site`.
    pub site: PathBuf,
    /// Sockets: `/run/ioto` in profile prod, `@state/run` in profile dev.
    pub run: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            share: "/usr/share/ioto".into(),
            config: "/etc/ioto".into(),
            state: "/var/lib/ioto".into(),
            db: "/var/lib/ioto/db".into(),
            certs: "/var/lib/ioto/certs".into(),
            site: "/usr/share/ioto/www".into(),
            run: "/run/ioto".into(),
        }
    }
}
