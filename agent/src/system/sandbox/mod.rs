//! The sandbox of the agent, the same on every init system: it opens what needs root, and then gives up what it does not need.
//!
//! All of it happens at one point, [`Entrance::enter`], before the first thread of the process is started: the user, umask and
//! limits belong to the process, but capabilities, `no_new_privs` and Landlock belong to each thread and are inherited by
//! those that it starts. (The filter of system calls is put on all threads anyway.) The order:
//!
//! 1. As root: make the state and the run directory and give them to the user; bind ports below 1024 (the caller does, see
//!    [`Entrance::gives_up_ports`]; the sockets are kept for as long as the process lives, so that a service that is started
//!    again needs no right to bind them).
//! 2. Empty the bounding set, lock the secure bits; become the user with its groups of `/etc/group`; empty all other sets of
//!    capabilities; `no_new_privs`.
//! 3. umask 0077; in profile prod no core dumps, and no other process looks into the memory.
//! 4. Landlock, with the [`Needs`] of the services.
//! 5. seccomp, last, since the other steps need calls that it refuses.
//!
//! Started as another user (systemd's `User=`), what is left of the list is done. The out-of-memory score is left to who
//! starts the agent, and so are limits of processes and of file sizes: the first counts all processes of a user, the second
//! ends a program whose database grows.
//!
//! What the kernel does not have is told as a warning and does not keep the agent from starting; that root cannot be given up
//! does. All holds for the programs that the agent starts, too: 32-bit programs of a 64-bit agent are ended by the filter.

#[cfg(feature = "sandbox")]
mod calls;
#[cfg(feature = "sandbox")]
mod capabilities;
mod error;
#[cfg(feature = "sandbox")]
mod files;
#[cfg(feature = "sandbox")]
mod identity;
mod needs;
mod state;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::config::{Config, Profile, SandboxSwitch};

#[cfg(feature = "sandbox")]
use self::identity::Identity;

pub use self::error::Error;
pub use self::needs::{Needs, Use};
pub use self::state::{Layer, State};

/// The way into the sandbox.
pub struct Entrance<'a> {
    #[cfg_attr(not(feature = "sandbox"), allow(dead_code, reason = "there is no sandbox in this build"))]
    config: &'a Config,
    mode: Mode,
}

enum Mode {
    Off {
        why: String,
        /// Whether that deserves a warning.
        warn: bool,
    },
    /// Profile dev: what a developer's machine can bear.
    #[cfg(feature = "sandbox")]
    Developer,
    /// All of it, as this user; nothing: as the one that started the agent.
    #[cfg(feature = "sandbox")]
    Full(Option<Identity>),
}

impl<'a> Entrance<'a> {
    /// Decides what is to be given up. Nothing is done yet.
    ///
    /// # Errors
    /// Started as root, without a user to become or without a sandbox.
    pub fn new(config: &'a Config) -> Result<Self, Error> {
        let is_root = nix::unistd::geteuid().is_root();
        let settings = &config.sandbox;
        let mode = match (settings.enable, config.profile) {
            (SandboxSwitch::Off, Profile::Prod) if is_root && settings.user != "root" => return Err(Error::Root),
            (SandboxSwitch::Off, profile) => {
                Mode::Off { why: "sandbox.enable is false".to_owned(), warn: profile == Profile::Prod }
            }
            #[cfg(not(feature = "sandbox"))]
            (_, profile) => {
                let why = "this build is without the Cargo feature `sandbox`".to_owned();
                Mode::Off { why, warn: profile == Profile::Prod }
            }
            #[cfg(feature = "sandbox")]
            (SandboxSwitch::Auto, Profile::Dev) => Mode::Developer,
            #[cfg(feature = "sandbox")]
            _ => Mode::Full(if is_root { Some(Identity::find(settings)?) } else { None }),
        };
        Ok(Self { config, mode })
    }

    /// Whether ports below 1024 can be bound now and not afterwards.
    pub fn gives_up_ports(&self) -> bool {
        match &self.mode {
            Mode::Off { .. } => false,
            #[cfg(feature = "sandbox")]
            Mode::Developer => false,
            #[cfg(feature = "sandbox")]
            Mode::Full(_) => capabilities::may_bind_low_ports(),
        }
    }

    /// Gives up what is not needed, for good.
    ///
    /// # Errors
    /// Root or a capability cannot be given up, or a directory not be given to the user.
    pub fn enter(self, needs: &Needs) -> Result<State, Error> {
        let _ = needs;
        let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let state = State { uid: user, gid: group, ..State::default() };
        match self.mode {
            Mode::Off { why, warn } => {
                let warnings = warn.then(|| format!("the agent runs without its sandbox: {why}"));
                Ok(State { off: Some(why), warnings: warnings.into_iter().collect(), ..state })
            }
            #[cfg(feature = "sandbox")]
            Mode::Developer => restricted::enter(self.config, None, needs, true),
            #[cfg(feature = "sandbox")]
            Mode::Full(identity) => restricted::enter(self.config, identity.as_ref(), needs, false),
        }
    }
}

/// Makes a directory of the agent, and those above it, if they are missing. Whatever the umask, the group may look in: the
/// sockets are there.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o750))?;
    }
    // Also when it is there: what is there may be no directory.
    DirBuilder::new().recursive(true).create(directory)
}

#[cfg(feature = "sandbox")]
mod restricted {
    use std::fs;
    use std::io;
    use std::path::PathBuf;

    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::stat::{Mode, umask};
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::thread::set_no_new_privs;

    use super::identity::Identity;
    use super::state::{Layer, State};
    use super::{Error, Needs, calls, capabilities, files, make_directory};
    use crate::config::{Config, Profile};

    /// The steps of the module's documentation.
    pub fn enter(
        config: &Config,
        identity: Option<&Identity>,
        needs: &Needs,
        is_developers: bool,
    ) -> Result<State, Error> {
        let settings = &config.sandbox;
        let mut warnings = Vec::new();
        let threads = fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
        if threads > 1 {
            warnings.push(format!(
                "{} threads were started before the agent; capabilities and Landlock do not hold for them",
                threads - 1
            ));
        }
        if let Some(identity) = identity {
            identity.own(&config.directories.state)?;
            identity.own(&config.directories.run)?;
        }
        if !is_developers {
            capabilities::bound()?;
            identity.map_or(Ok(()), Identity::assume)?;
            match capabilities::drop_all() {
                // Who started the agent may have forbidden the call, and has chosen what it has.
                Err(error) if identity.is_none() => warnings.push(error.to_string()),
                dropped => dropped?,
            }
            umask(Mode::from_bits_truncate(0o077));
        }
        make_directories(config);
        if !is_developers {
            match config.profile {
                Profile::Prod => warnings.extend(keep_memory_private().err().map(|error| error.to_string())),
                // The change of the user has made it private; a developer's debugger looks in.
                Profile::Dev => drop(set_dumpable_behavior(DumpableBehavior::Dumpable)),
            }
        }
        set_no_new_privs(true).map_err(|errno| Error::Step("no_new_privs", io::Error::from(errno)))?;

        let landlock = match settings.landlock {
            true => files::restrict(&all(config, needs, is_developers), is_developers),
            false => Layer::Off,
        };
        let seccomp = if settings.seccomp { calls::restrict() } else { Layer::Off };
        for (name, layer) in [("landlock", &landlock), ("seccomp", &seccomp)] {
            if let Layer::Missing(why) = layer {
                warnings.push(format!("no {name}: {why}"));
            }
        }
        let user = nix::unistd::geteuid();
        if user.is_root() && !is_developers {
            warnings.push("the agent runs as root, though without capabilities: sandbox.user is 'root'".to_owned());
        }
        Ok(State {
            off: None,
            uid: user.as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            capabilities: capabilities::names(),
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            landlock,
            seccomp,
            warnings,
        })
    }

    /// A rule of Landlock is for what is there. What cannot be made is told by who needs it.
    fn make_directories(config: &Config) {
        let directories = &config.directories;
        let database = config.database.path.parent().filter(|_| config.services.database);
        let all = [&directories.state, &directories.run, &directories.certs];
        for directory in all.into_iter().map(PathBuf::as_path).chain(database) {
            let _ = make_directory(directory);
        }
    }

    /// What the services need, what every agent needs, and what the configuration adds.
    fn all(config: &Config, needs: &Needs, is_developers: bool) -> Needs {
        let (mut all, directories) = (needs.clone(), &config.directories);
        all.write(&directories.state).write(&directories.run).write(&directories.certs);
        all.read(&directories.share).read(&directories.config).read(&directories.site);
        if all.has_programs() || is_developers {
            // Their files in between; in profile prod those of the agent's own user.
            all.write(std::env::temp_dir());
        }
        if is_developers {
            // Terminals and what else a developer's programs open.
            all.write("/dev");
        }
        let settings = &config.sandbox;
        for path in &settings.read {
            all.read(path);
        }
        for path in &settings.write {
            all.write(path);
        }
        for path in &settings.execute {
            all.execute(path);
        }
        all
    }

    /// No core dumps, and nobody looks into the memory: keys are in it.
    fn keep_memory_private() -> Result<(), Error> {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)
            .map_err(|errno| Error::Step("core dumps stay possible", errno.into()))?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| Error::Step("the memory stays readable", io::Error::from(errno)))
    }
}
