//! From root to a user of its own: who that is, the directories that it gets, and the step itself.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{self, Gid, Group, Uid, User};

use super::Error;
use crate::config::Sandbox;

/// Who the agent is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub uid: Uid,
    pub gid: Gid,
}

impl Identity {
    /// The user and the group that are configured.
    pub fn find(settings: &Sandbox) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Step("the users of the system can not be read", errno.into());
        let name = &settings.user;
        let user = User::from_name(name).map_err(failed)?.ok_or_else(|| Error::NoUser(name.clone()))?;
        let group = Group::from_name(&settings.group).map_err(failed)?;
        let gid = match group {
            Some(group) => group.gid,
            // Who names another user and no group means the user's own.
            None if settings.group == Sandbox::default().group && *name != Sandbox::default().user => user.gid,
            None => return Err(Error::NoGroup(settings.group.clone())),
        };
        Ok(Self { name: name.clone(), uid: user.uid, gid })
    }

    /// Makes the directory if it is missing, and gives it to this user when root has it; nothing in it is touched.
    pub fn own(&self, directory: &Path) -> Result<(), Error> {
        let failed = |error| Error::Directory(directory.to_owned(), error);
        if let Some(parent) = directory.parent() {
            // Those above must let the user through.
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // By its descriptor: what it is cannot change between the look and the deed, and a link is never followed.
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(directory);
        let opened: File = match open(flags) {
            // The directory that a link leads to is whoever's that made it; as it is, it is used or not.
            Err(error) if fs::symlink_metadata(directory).is_ok_and(|found| found.is_symlink()) => {
                let _ = error;
                return Ok(());
            }
            opened => opened.map_err(failed)?,
        };
        let found = opened.metadata().map_err(failed)?;
        if found.uid() != 0 || self.uid.is_root() {
            return Ok(());
        }
        if is_shared(directory, found.mode()) {
            return Err(Error::Shared(directory.to_owned()));
        }
        unistd::fchown(opened.as_fd(), Some(self.uid), Some(self.gid)).map_err(|errno| failed(errno.into()))?;
        opened.set_permissions(fs::Permissions::from_mode(0o750)).map_err(failed)
    }

    /// Becomes this user, in all threads, for good.
    pub fn assume(&self) -> Result<(), Error> {
        let failed = |step| move |errno: Errno| Error::Step(step, errno.into());
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        unistd::initgroups(&name, self.gid).map_err(failed("the groups of the user can not be taken"))?;
        unistd::setresgid(self.gid, self.gid, self.gid).map_err(failed("the group can not be changed"))?;
        unistd::setresuid(self.uid, self.uid, self.uid).map_err(failed("the user can not be changed"))?;
        if !self.uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err(Error::Step("root could be had again", io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        Ok(())
    }
}

/// Whether a directory of root's is there for others, too: to give it away by a slip of the configuration would open the system.
fn is_shared(directory: &Path, mode: u32) -> bool {
    const SYSTEM: [&str; 11] =
        ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/sbin", "/sys", "/usr"];
    const COMMON: [&str; 7] = ["/var/lib", "/var/run", "/var/log", "/var/tmp", "/var/cache", "/var/spool", "/run/lock"];
    let depth = directory.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let is_system =
        SYSTEM.iter().any(|top| directory.starts_with(top)) || COMMON.iter().any(|top| directory == Path::new(top));
    // Others write there: its files are not the agent's.
    let is_open = mode & 0o022 != 0;
    depth < 2 || is_system || is_open
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_system_are_not_given_away() {
        for path in ["/", "/var", "/var/lib", "/run", "/tmp", "/etc/ioto", "/usr/local/ioto", "/root/state", "/home"] {
            assert!(is_shared(path.as_ref(), 0o755), "{path}");
        }
        for path in ["/var/lib/ioto", "/run/ioto", "/var/run/ioto", "/data/ioto", "/tmp/test-1/state"] {
            assert!(!is_shared(path.as_ref(), 0o755), "{path}");
            assert!(is_shared(path.as_ref(), 0o1777), "{path}");
        }
    }

    #[test]
    fn a_user_or_group_that_is_missing_is_named() {
        let settings = Sandbox { user: "no-such-user".into(), ..Sandbox::default() };
        assert!(Identity::find(&settings).unwrap_err().to_string().contains("no user `no-such-user`"));
        let settings = Sandbox { user: "daemon".into(), group: "no-such-group".into(), ..Sandbox::default() };
        assert!(Identity::find(&settings).unwrap_err().to_string().contains("no group `no-such-group`"));
        let settings = Sandbox { user: "daemon".into(), ..Sandbox::default() };
        let daemon = User::from_name("daemon").unwrap().unwrap();
        assert_eq!(Identity::find(&settings).unwrap().uid, daemon.uid);
    }

    #[test]
    fn a_link_is_not_followed() {
        let base = std::env::temp_dir().join(format!("ioto-identity-{:x}", fastrand::u64(..)));
        fs::create_dir_all(base.join("theirs")).unwrap();
        std::os::unix::fs::symlink(base.join("theirs"), base.join("link")).unwrap();
        let before = fs::metadata(base.join("theirs")).unwrap();
        let identity = Identity { name: "daemon".into(), uid: Uid::from_raw(1), gid: Gid::from_raw(1) };
        identity.own(&base.join("link")).unwrap();
        let after = fs::metadata(base.join("theirs")).unwrap();
        assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
        if Uid::effective().is_root() {
            identity.own(&base.join("new/state")).unwrap();
            let made = fs::metadata(base.join("new/state")).unwrap();
            assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (1, 1, 0o750));
            assert_eq!(fs::metadata(base.join("new")).unwrap().uid(), 0);
        }
        fs::remove_dir_all(base).unwrap();
    }
}
