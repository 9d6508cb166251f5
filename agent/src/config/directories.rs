//! `directories`: where things are on the device. Each may be written with the path tokens of those above it in the list.

use std::path::PathBuf;

use super::Profile;
use super::section::{Reader, Section};

/// The directories of the agent, absolute.
#[derive(Clone, Debug)]
pub struct Directories {
    /// `directories.share`: defaults that the image ships, read-only. Not from a file: files are looked for here.
    pub share: PathBuf,
    /// `directories.config` (`--config`), token `@config`: the integrator's configuration. Not from a file, as `share`.
    pub config: PathBuf,
    /// `directories.state` (`--state`), token `@state`: the only place that is written, besides `run`.
    pub state: PathBuf,
    /// `directories.db`, token `@db`: the database.
    pub db: PathBuf,
    /// `directories.certs`, token `@certs`: keys and certificates.
    pub certs: PathBuf,
    /// `directories.site`, token `@site`: the web pages; `www` in `share` by default.
    pub site: PathBuf,
    /// `directories.run`: sockets. `/run/ioto` in profile prod, `@state/run` in profile dev.
    pub run: PathBuf,
}

impl Directories {
    /// The Unix socket of the local API.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// The Unix socket of `ioto-rescue`.
    pub fn rescue_socket(&self) -> PathBuf {
        self.run.join("rescue.sock")
    }
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

impl Directories {
    /// Reads the directories, and makes them the path tokens of `reader`.
    pub(super) fn read(s: &Section, profile: Profile, reader: &Reader) -> Self {
        let d = Self::default();
        let token = |token, directory: PathBuf| {
            reader.set_token(token, &directory);
            directory
        };
        let share = s.path("share", &d.share);
        let config = token("config", s.path("config", &d.config));
        let state = token("state", s.path("state", &d.state));
        let run = match profile {
            Profile::Dev => state.join("run"),
            Profile::Prod => d.run,
        };
        Self {
            db: token("db", s.path("db", &state.join("db"))),
            certs: token("certs", s.path("certs", &state.join("certs"))),
            site: token("site", s.path("site", &share.join("www"))),
            run: s.path("run", &run),
            share,
            config,
            state,
        }
    }
}
