//! The file descriptors of the process: each connection takes one, and one more for the file that it is sent.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Descriptors of one connection: its socket, and a file or the socket to what stands behind a proxy route.
const EACH: u64 = 2;
/// At least and at most so many are left for the rest of the program: the database, logs, other servers.
const REST: (u64, u64) = (8, 64);

/// What the limits of the process allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Connections at a time.
    pub connections: usize,
    /// A socket with this number or a higher one is one too many: the numbers below are nearly used up.
    pub ceiling: u64,
}

/// Finds room for so many connections. The soft limit of descriptors is raised toward the hard one for that.
pub(super) fn make_room(connections: usize) -> Room {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Room { connections, ceiling: u64::MAX };
    };
    let open = fs::read_dir("/proc/self/fd").map_or(32, |entries| entries.count() as u64);
    let wanted = (connections as u64).saturating_mul(EACH).saturating_add(open + REST.1);
    let raised = rlim_t::try_from(wanted).unwrap_or(rlim_t::MAX).min(hard);
    let is_raised = raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok();
    #[allow(clippy::useless_conversion, reason = "a limit has 32 bits on 32-bit ARM")]
    let limit = u64::from(if is_raised { raised } else { soft });
    let room = within(connections, limit, open);
    if room.connections < connections {
        let allowed = room.connections;
        log::warn!(
            "web.limits.connections: {connections} connections need more file descriptors than the {limit} that this \
             process may open; serving {allowed} at a time (raise LimitNOFILE= of the service, or `ulimit -Hn`)"
        );
    }
    room
}

fn within(connections: usize, limit: u64, open: u64) -> Room {
    let rest = (limit / 8).clamp(REST.0, REST.1);
    let allowed = limit.saturating_sub(open + rest) / EACH;
    let connections = connections.min(usize::try_from(allowed).unwrap_or(usize::MAX)).max(1);
    Room { connections, ceiling: limit.saturating_sub(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_the_database_always_find_descriptors() {
        assert_eq!(within(1024, 1 << 20, 30), Room { connections: 1024, ceiling: (1 << 20) - 64 });
        assert_eq!(within(1024, 4096, 30).connections, 1024);
        assert_eq!(within(1024, 1024, 30).connections, 465);
        assert_eq!(within(1024, 64, 20), Room { connections: 18, ceiling: 56 });
        assert_eq!(within(10, 64, 20).connections, 10);
    }

    #[test]
    fn one_connection_is_served_whatever_the_limit() {
        assert_eq!(within(1024, 0, 30).connections, 1);
        assert_eq!(within(1024, 10, 30).connections, 1);
    }
}
