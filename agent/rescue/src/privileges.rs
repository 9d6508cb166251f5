//! Giving up what is not needed: root, capabilities, the file system, new privileges.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::options::Options;

/// The newest rules of the kernel that are asked for; older kernels give what they have.
const LANDLOCK: ABI = ABI::V5;
/// What is read: the heartbeat, the boot id, logs, and what journalctl is made of. `/run` holds the journal too.
const READ: [&str; 9] = ["/proc", "/etc", "/usr", "/bin", "/lib", "/lib64", "/var/log", "/run/log", "/run/systemd"];
/// Memory that may be written, threads' stacks included, for this program and journalctl each.
const DATA: u64 = 64 * 1024 * 1024;
/// Descriptors beside those of the clients.
const DESCRIPTORS: u64 = 48;

/// Whom to become.
#[derive(Debug)]
pub struct Identity {
    pub user: User,
    pub group: Gid,
}

impl Identity {
    /// When started as root: the user and group that the options name. Else we are who we are.
    pub fn find(options: &Options) -> Result<Option<Self>, String> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let (user, group) = (&options.user, &options.group);
        let missing = |what, name: &str| format!("there is no {what} `{name}`; make it, or name another with --{what}");
        let found = User::from_name(user).map_err(|error| format!("user {user}: {error}"))?;
        let user = found.ok_or_else(|| missing("user", user))?;
        let found = Group::from_name(group).map_err(|error| format!("group {group}: {error}"))?;
        let group = found.ok_or_else(|| missing("group", group))?.gid;
        Ok(Some(Self { user, group }))
    }
}

/// Gives everything up, for this thread and all that it will start; tells what is active.
pub fn give_up(identity: Option<&Identity>, options: &Options) -> Result<String, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    if let Some(Identity { user, group }) = identity {
        let name = std::ffi::CString::new(user.name.as_str()).map_err(|error| failed("become the user", &error))?;
        // In this order: who is not root any more may not change groups.
        let become_user = nix::unistd::initgroups(&name, *group)
            .and_then(|()| nix::unistd::setresgid(*group, *group, *group))
            .and_then(|()| nix::unistd::setresuid(user.uid, user.uid, user.uid));
        become_user.map_err(|error| failed(&format!("become user {}", user.name), &error))?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(|error| failed("drop capabilities", &error))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| failed("set no_new_privs", &error))?;
    limit(options).map_err(|error| failed("set resource limits", &error))?;
    let landlock = match restrict(options) {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => "Landlock on",
            RulesetStatus::PartiallyEnforced => "Landlock on, as far as this kernel goes",
            RulesetStatus::NotEnforced => "no Landlock in this kernel",
        },
        Err(error) => return Err(failed("set up Landlock", &error)),
    };
    Ok(format!("user {}, no capabilities, {landlock}", Uid::effective()))
}

fn limit(options: &Options) -> rustix::io::Result<()> {
    let descriptors = DESCRIPTORS + options.clients as u64;
    let limits = [(Resource::Nofile, descriptors), (Resource::Core, 0), (Resource::Data, DATA)];
    for (resource, most) in limits {
        // Not more than the service manager gave us.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn restrict(options: &Options) -> Result<RestrictionStatus, landlock::RulesetError> {
    let read = AccessFs::from_read(LANDLOCK);
    let log = options.log.as_deref().and_then(Path::parent).map(PathBuf::from);
    let paths = READ.iter().map(PathBuf::from).chain([options.run.clone()]).chain(log);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .create()?;
    for path in paths {
        // What is not on this image needs no rule.
        if let Ok(path) = PathFd::new(&path) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, read))?;
        }
    }
    if let Ok(null) = PathFd::new("/dev/null") {
        ruleset = ruleset.add_rule(PathBeneath::new(null, AccessFs::ReadFile | AccessFs::WriteFile))?;
    }
    ruleset.restrict_self()
}
