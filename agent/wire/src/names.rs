//! The arguments of requests. A value of these types is valid: it was parsed, and can not be made otherwise.

use crate::json::Invalid;
use std::fmt;
use std::time::Duration;

macro_rules! shown {
    ($($name:ident)*) => {$(
        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

shown!(Hostname Zone Bundle Slot);

/// A host name (RFC 1123 section 2.1): labels of letters, digits and hyphens, with dots between, at most 64 bytes, which
/// is what Linux takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// From its text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match text.len() <= 64 && text.split('.').all(label) {
            true => Ok(Self(text.into())),
            false => Err(Invalid::new(
                "a host name is at most 64 letters, digits, hyphens and dots; no label begins or ends with a hyphen",
            )),
        }
    }
}

/// A time of day: milliseconds since 1970, UTC, from 2020 to 2099. A time outside is a mistake of the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(u64);

impl Time {
    const FIRST: u64 = 1_577_836_800_000;
    const LAST: u64 = 4_102_444_800_000;

    /// From milliseconds since 1970.
    pub fn from_millis(millis: u64) -> Result<Self, Invalid> {
        match (Self::FIRST..Self::LAST).contains(&millis) {
            true => Ok(Self(millis)),
            false => Err(Invalid::new("a time is in milliseconds since 1970, from 2020 to 2099")),
        }
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0
    }

    /// Since 1970.
    pub fn since_1970(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A time zone by its name in the zone database, such as `Europe/Berlin`: a path of plain names. Whether the device has it,
/// the helper looks up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(String);

impl Zone {
    /// From its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
        };
        match text.len() <= 64 && text.split('/').count() <= 3 && text.split('/').all(part) {
            true => Ok(Self(text.into())),
            false => Err(Invalid::new("a time zone is a name as Europe/Berlin, Etc/GMT+1 or UTC")),
        }
    }
}

/// The plain name of a file in the directory of updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle(String);

impl Bundle {
    /// From its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match token(text, 128) {
            true => Ok(Self(text.into())),
            false => Err(Invalid::new(
                "a bundle is named by a plain file name: letters, digits and ._+- at most 128, a letter or digit first",
            )),
        }
    }
}

/// One of the root partitions: `A`, `B`, `booted`, `other`, or its name in the updater's configuration as `rootfs.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot(String);

impl Slot {
    /// From its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match token(text, 32) {
            true => Ok(Self(text.into())),
            false => Err(Invalid::new("a slot is A, B, booted, other, or a name as rootfs.0, at most 32 characters")),
        }
    }
}

/// Letters, digits and `._+-`, a letter or digit first: no path, no option, nothing hidden.
fn token(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        for good in ["a", "3com", "ioto-1.example.com", &"x".repeat(63)] {
            assert!(Hostname::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a\nb", "ä", &"x".repeat(64), &"x.".repeat(40)] {
            assert!(Hostname::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_leads_out_of_its_directory() {
        for bad in
            ["", ".", "..", "../x", "/etc/passwd", "a/../b", "a//b", "a/", "/a", ".hidden", "-i", "a\0b", "a\nb", "a b"]
        {
            assert!(Zone::parse(bad).is_err(), "{bad}");
            assert!(Bundle::parse(bad).is_err(), "{bad}");
            assert!(Slot::parse(bad).is_err(), "{bad}");
        }
        assert!(Bundle::parse("a/b").is_err());
        for good in ["UTC", "Europe/Berlin", "Etc/GMT+1", "America/Argentina/Buenos_Aires"] {
            assert!(Zone::parse(good).is_ok(), "{good}");
        }
        assert!(Bundle::parse("ioto-1.2.3+b4.raucb").is_ok());
        assert!(Slot::parse("rootfs.0").is_ok());
    }

    #[test]
    fn a_time_is_plausible() {
        assert!(Time::from_millis(0).is_err());
        assert!(Time::from_millis(1_577_836_799_999).is_err());
        assert!(Time::from_millis(1_790_000_000_000).is_ok());
        assert!(Time::from_millis(4_102_444_800_000).is_err());
        assert!(Time::from_millis(u64::MAX).is_err());
    }
}
