//! The parts of root's power that a process can hold one by one: none of them stays.

use std::io;

use rustix::thread::{
    CapabilitiesSecureBits as Bits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

use super::Error;

/// Capabilities that a kernel may know: those of today are 41.
const ALL: u32 = 64;

/// Empties the bounding set and makes root a user as any other. Needs CAP_SETPCAP; without it there is nothing to do, since
/// who started the agent without it has bounded it already.
pub fn bound() -> Result<(), Error> {
    let held = capabilities(None).map_err(step("the capabilities can not be read"))?;
    if !held.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..ALL {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // The kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            removed => removed.map_err(step("the bounding set can not be emptied"))?,
        }
    }
    // KEEP_CAPS stays off and locked, so that the change of the user takes what is left. Ambient ones cannot come back.
    let bits = Bits::NO_ROOT
        | Bits::NO_ROOT_LOCKED
        | Bits::KEEP_CAPS_LOCKED
        | Bits::NO_CAP_AMBIENT_RAISE
        | Bits::NO_CAP_AMBIENT_RAISE_LOCKED;
    match set_capabilities_secure_bits(bits) {
        // A kernel without ambient capabilities (before 4.3) knows no bits for them.
        Err(_) => set_capabilities_secure_bits(Bits::NO_ROOT | Bits::NO_ROOT_LOCKED | Bits::KEEP_CAPS_LOCKED),
        done => done,
    }
    .map_err(step("the secure bits can not be set"))
}

/// Gives up all capabilities of this thread.
pub fn drop_all() -> Result<(), Error> {
    // Kernels before 4.3 have no ambient set.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(step("the capabilities can not be given up"))
}

/// The names of those that this thread could use, as capabilities(7) has them.
pub fn names() -> Vec<String> {
    let held = capabilities(None).map(|sets| sets.permitted | sets.effective).unwrap_or(CapabilitySet::empty());
    held.iter_names().map(|(name, _)| name.to_ascii_lowercase()).filter(|name| name != "_").collect()
}

/// Whether ports below 1024 can be bound.
pub fn may_bind_low_ports() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_BIND_SERVICE))
}

fn step(name: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |errno| Error::Step(name, io::Error::from(errno))
}
