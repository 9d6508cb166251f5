//! seccomp: the system calls that are answered. Three filters, the most severe answer counts:
//!
//! 1. What is in the allow list passes; all else is answered with ENOSYS, as by a kernel that does not have it. So the C library
//!    of a later system falls back from a call that this table does not know yet to one that it does.
//! 2. What is known and not needed (the refuse list, new namespaces, sockets of rare kinds) is answered with EPERM, which tells
//!    programs the truth and does not set them on another way to the same end.
//! 3. What only an attack would try here (the deadly list) ends the process: EPERM would let it try on. The kernel tells so in its
//!    log (`audit: type=1326`), and the agent is started again.
//!
//! `clone3` is in no table: its flags lie in memory, where a filter cannot look, so that it could make namespaces. With
//! ENOSYS the C library takes `clone`, whose flags are looked at.
//!
//! The tables are those of systemd's `@system-service` without `@resources`, `@keyring` and io_uring, and with what the agent
//! and programs in usual languages do beside. On other processors than these two the filter is left to the unit
//! (`SystemCallFilter=`).

use super::state::Layer;

/// Restricts all threads.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn restrict() -> Layer {
    let installed =
        filters().and_then(|filters| filters.iter().try_for_each(|f| seccompiler::apply_filter_all_threads(f)));
    match installed {
        Ok(()) => Layer::On(format!("{} calls", filter::allowed().count())),
        Err(error) => Layer::Missing(format!("this kernel does not take the filter (CONFIG_SECCOMP_FILTER): {error}")),
    }
}

/// Restricts nothing.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn restrict() -> Layer {
    Layer::Missing("on this processor it is left to SystemCallFilter= of the service manager".to_owned())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter {
    use std::collections::BTreeMap;

    use nix::libc;
    use seccompiler::SeccompCmpArgLen::{Dword, Qword};
    use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
    use seccompiler::{
        BackendError, BpfProgram, Error, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    };

    macro_rules! calls {
        ($($name:ident)*) => { &[$(libc::$name),*] };
    }

    /// What passes on every processor, and by number what this version of crate libc has no name for.
    const GENERIC: &[i64] = calls![
        // Files.
        SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64
        SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
        SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getdents64 SYS_mkdirat SYS_mknodat SYS_unlinkat SYS_renameat2
        SYS_linkat SYS_symlinkat SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat SYS_truncate SYS_ftruncate
        SYS_fallocate SYS_fadvise64 SYS_readahead SYS_fsync SYS_fdatasync SYS_sync SYS_syncfs SYS_flock SYS_fcntl SYS_ioctl
        SYS_dup SYS_dup3 SYS_pipe2 SYS_sendfile SYS_splice SYS_tee SYS_vmsplice SYS_copy_file_range SYS_getcwd SYS_chdir
        SYS_fchdir SYS_umask SYS_memfd_create SYS_name_to_handle_at SYS_inotify_init1 SYS_inotify_add_watch
        SYS_inotify_rm_watch SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr
        SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr
        // Waiting for events.
        SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_eventfd2 SYS_signalfd4
        SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
        SYS_io_setup SYS_io_submit SYS_io_getevents SYS_io_cancel SYS_io_destroy
        // Network.
        SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_shutdown SYS_getsockname
        SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg
        SYS_recvmmsg
        // Memory.
        SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mincore SYS_mlock SYS_mlock2
        SYS_mlockall SYS_munlock SYS_munlockall SYS_membarrier SYS_get_mempolicy SYS_pkey_alloc SYS_pkey_free
        SYS_pkey_mprotect
        // Threads and processes.
        SYS_clone SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_set_tid_address
        SYS_set_robust_list SYS_get_robust_list SYS_rseq SYS_futex SYS_futex_waitv SYS_gettid SYS_getpid SYS_getppid
        SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid
        SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid SYS_setgroups SYS_getpgid
        SYS_setpgid SYS_getsid SYS_setsid SYS_prctl SYS_capget SYS_capset SYS_getrusage SYS_times SYS_prlimit64
        SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_sched_yield SYS_sched_getaffinity SYS_sched_getattr
        SYS_sched_getparam SYS_sched_getscheduler SYS_sched_get_priority_max SYS_sched_get_priority_min
        SYS_sched_rr_get_interval SYS_getcpu SYS_pidfd_open SYS_pidfd_send_signal SYS_uname SYS_sysinfo SYS_getrandom
        SYS_restart_syscall SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
        // Signals.
        SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigsuspend
        SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_sigaltstack
        // Time.
        SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_getitimer SYS_setitimer
        SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
        // Memory, semaphores and queues in common with other processes.
        SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget SYS_msgsnd
        SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify
        SYS_mq_getsetattr
    ];

    /// cachestat, fchmodat2, futex_wake, futex_wait, futex_requeue, mseal: the same numbers on every processor.
    const NEW: &[i64] = &[451, 452, 454, 455, 456, 462];

    #[cfg(target_arch = "x86_64")]
    const OWN: &[i64] = calls![
        SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_mknod SYS_unlink SYS_rename
        SYS_renameat SYS_link SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_getdents
        SYS_dup2 SYS_pipe SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd SYS_inotify_init
        SYS_sync_file_range SYS_fork SYS_vfork SYS_getpgrp SYS_getrlimit SYS_setrlimit SYS_alarm SYS_pause SYS_time
        SYS_arch_prctl
    ];

    /// sync_file_range, renameat (which `rename` of the C library is), getrlimit, setrlimit.
    #[cfg(target_arch = "aarch64")]
    const OWN: &[i64] = &[84, 38, 163, 164];

    /// What is known and not needed.
    pub const REFUSED: &[i64] = calls![
        SYS_acct SYS_add_key SYS_adjtimex SYS_chroot SYS_clock_adjtime SYS_clock_settime SYS_fanotify_init
        SYS_fanotify_mark SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_ioprio_set SYS_kcmp SYS_keyctl
        SYS_lookup_dcookie SYS_mbind SYS_memfd_secret SYS_migrate_pages SYS_move_pages SYS_nfsservctl
        SYS_open_by_handle_at SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_process_madvise
        SYS_process_mrelease SYS_quotactl SYS_quotactl_fd SYS_remap_file_pages SYS_request_key SYS_sched_setaffinity
        SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler SYS_set_mempolicy SYS_set_mempolicy_home_node
        SYS_setdomainname SYS_sethostname SYS_setns SYS_settimeofday SYS_syslog SYS_unshare SYS_userfaultfd SYS_vhangup
    ];

    /// What only an attack would try.
    pub const DEADLY: &[i64] = calls![
        SYS_bpf SYS_delete_module SYS_finit_module SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_init_module
        SYS_kexec_load SYS_mount SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_pivot_root SYS_process_vm_readv
        SYS_process_vm_writev SYS_ptrace SYS_reboot SYS_swapoff SYS_swapon SYS_umount2
    ];

    /// kexec_file_load, and the ports of a PC.
    #[cfg(target_arch = "x86_64")]
    pub const OWN_DEADLY: &[i64] = calls![SYS_kexec_file_load SYS_ioperm SYS_iopl];
    #[cfg(target_arch = "aarch64")]
    pub const OWN_DEADLY: &[i64] = &[294];

    /// Unix, IPv4, IPv6; netlink, by which the C library asks for addresses.
    const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    const NAMESPACES: [libc::c_int; 7] = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];

    /// Characters put into the input of a terminal: they would be commands to the shell behind it.
    const TERMINAL: [u64; 2] = [0x5412, 0x541c];

    pub fn allowed() -> impl Iterator<Item = i64> {
        GENERIC.iter().chain(NEW).chain(OWN).copied()
    }

    /// The filters in the order in which they are installed.
    pub fn filters() -> Result<Vec<BpfProgram>, Error> {
        let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(Error::Backend)?;
        let compile = |rules, other, matching| {
            let filter = SeccompFilter::new(rules, other, matching, architecture)?;
            BpfProgram::try_from(filter)
        };
        let errno = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
        let table =
            |calls: &mut dyn Iterator<Item = i64>| calls.map(|call| (call, Vec::new())).collect::<BTreeMap<_, _>>();

        let allowed = table(&mut allowed());
        let deadly = table(&mut DEADLY.iter().chain(OWN_DEADLY).copied());
        let mut refused = table(&mut REFUSED.iter().copied());
        refused.extend(conditional().map_err(Error::Backend)?);
        [
            compile(allowed, errno(libc::ENOSYS), SeccompAction::Allow),
            compile(refused, SeccompAction::Allow, errno(libc::EPERM)),
            compile(deadly, SeccompAction::Allow, SeccompAction::KillProcess),
        ]
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(Error::Backend)
    }

    /// What is refused by its arguments.
    fn conditional() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
        let other_family = FAMILIES.iter().map(|family| SeccompCondition::new(0, Dword, Ne, number(*family)));
        let other_family = SeccompRule::new(other_family.collect::<Result<_, _>>()?)?;
        let one = |argument, length, operation, value| {
            SeccompRule::new(vec![SeccompCondition::new(argument, length, operation, value)?])
        };
        let namespaces = NAMESPACES.iter().map(|flag| number(*flag)).map(|flag| one(0, Qword, MaskedEq(flag), flag));
        let terminal = TERMINAL.iter().map(|request| one(1, Dword, Eq, *request));
        Ok(BTreeMap::from([
            (libc::SYS_socket, vec![other_family]),
            (libc::SYS_clone, namespaces.collect::<Result<_, _>>()?),
            (libc::SYS_ioctl, terminal.collect::<Result<_, _>>()?),
        ]))
    }

    fn number(value: libc::c_int) -> u64 {
        u64::from(value.unsigned_abs())
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use std::collections::BTreeSet;

        use super::*;

        #[test]
        fn no_call_is_in_two_tables() {
            let mut seen = BTreeSet::new();
            for call in allowed().chain(REFUSED.iter().chain(DEADLY).chain(OWN_DEADLY).copied()) {
                assert!(seen.insert(call), "system call {call} is in two tables");
            }
            assert!(!seen.contains(&libc::SYS_clone3));
        }

        #[test]
        fn the_filters_compile() {
            let filters = filters().unwrap();
            assert_eq!(filters.len(), 3);
            assert!(filters.iter().all(|filter| !filter.is_empty() && filter.len() < 4096));
        }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use self::filter::filters;
