//! The device's name and time zone.

use crate::files::{link_whole, write_whole};
use crate::settings;
use ioto_wire::{Hostname, Request, Zone};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const ZONES: &str = "/usr/share/zoneinfo";
const LOCALTIME: &str = "/etc/localtime";
/// Where an image with a read-only root may let /etc/localtime lead.
const VOLATILE_LOCALTIME: &str = "/run/localtime";

/// Sets the name now and for the next boots.
pub fn name(name: &Hostname, request: &Request) -> Result<String, String> {
    settings::keep(request)?;
    rustix::system::sethostname(name.as_str().as_bytes())
        .map_err(|error| format!("the name can not be set: {error}"))?;
    match write_whole(Path::new("/etc/hostname"), format!("{name}\n").as_bytes(), 0o644) {
        Ok(_) => Ok(format!("the device is named {name}")),
        Err(error) if read_only(&error) => {
            Ok(format!("the device is named {name}; as /etc is read-only, it is named so again at each boot"))
        }
        Err(error) => Err(format!("/etc/hostname can not be written: {error}")),
    }
}

/// Sets the time zone now and for the next boots.
pub fn zone(zone: &Zone, request: &Request) -> Result<String, String> {
    check(zone)?;
    settings::keep(request)?;
    let volatile = fs::read_link(LOCALTIME).is_ok_and(|target| target == Path::new(VOLATILE_LOCALTIME));
    let link = if volatile { VOLATILE_LOCALTIME } else { LOCALTIME };
    link_whole(Path::new(link), &format!("{ZONES}/{zone}")).map_err(|error| match read_only(&error) {
        true => format!("/etc is read-only; in such an image {LOCALTIME} must be a link to {VOLATILE_LOCALTIME}"),
        false => format!("{link} can not be made: {error}"),
    })?;
    match write_whole(Path::new("/etc/timezone"), format!("{zone}\n").as_bytes(), 0o644) {
        Err(error) if !read_only(&error) => Err(format!("/etc/timezone can not be written: {error}")),
        _ => Ok(format!("the time zone is {zone}; programs that run already may keep the old one")),
    }
}

/// The zone is a file of zone data below the directory of zones; links within it are allowed, it is made of them.
fn check(zone: &Zone) -> Result<(), String> {
    let missing = |error: io::Error| format!("the device has no time zone {zone} in {ZONES}: {error}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let directory = open(ZONES, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| missing(error.into()))?;
    let file = openat2(&directory, zone.as_str(), flags, Mode::empty(), ResolveFlags::BENEATH)
        .map_err(|error| missing(error.into()))?;
    let found = fstat(&file).map_err(|error| missing(error.into()))?;
    let mut magic = [0; 4];
    let regular = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    match regular && File::from(file).read_exact(&mut magic).is_ok() && &magic == b"TZif" {
        true => Ok(()),
        false => Err(format!("{ZONES}/{zone} is not the data of a time zone")),
    }
}

/// A root that can not be written, by its mount or by the service manager.
pub fn read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}
