//! `timeouts`: of calls that belong to no section of their own. `timeouts.aws` is [`Aws::timeout`](super::Aws::timeout).

use std::time::Duration;

use super::section::Section;
use super::units::FOREVER;

/// How long calls over the network may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `timeouts.api`: one call of an API.
    pub api: Duration,
    /// `timeouts.download`: a whole file.
    pub download: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { api: Duration::from_secs(30), download: Duration::from_secs(4 * 60 * 60) }
    }
}

impl Timeouts {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        Self {
            api: s.duration("api", Duration::from_secs(1)..=FOREVER, d.api),
            download: s.duration("download", Duration::from_secs(1)..=FOREVER, d.download),
        }
    }
}
