//! What each stage may do: the table, and giving up all else.

use crate::files::{AGENT_STATE, SETTINGS};
use crate::programs;
use crate::stage::Stage;
use crate::verbs::NETWORK_DIRECTORIES;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};
use rustix::io;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The rights of a stage.
struct Rules {
    /// The capabilities that are kept; none given: all.
    capabilities: Option<CapabilitySet>,
    /// Where may be written. Programs and system files may be read; the agent's state and all else not even that. None
    /// given: no rules.
    write: Option<Vec<&'static str>>,
}

/// Where every stage may read, and start programs.
const READ: [&str; 10] = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/run", "/proc", "/sys", "/dev"];

/// The table.
fn rules(stage: Stage) -> Option<Rules> {
    let systemd = programs::systemd();
    let only = |capabilities, write: &[&'static str]| {
        Some(Rules { capabilities: Some(capabilities), write: Some(write.to_vec()) })
    };
    let none = CapabilitySet::empty();
    match stage {
        Stage::Reboot => only(CapabilitySet::SYS_BOOT, &["/run", "/dev/initctl"]),
        Stage::Restart | Stage::Stop if systemd => only(none, &[]),
        // The init script starts the agent as our descendant: it must not inherit our bounds, and drops its own rights.
        Stage::Restart | Stage::Stop => None,
        Stage::Hostname => only(CapabilitySet::SYS_ADMIN, &["/etc", SETTINGS]),
        Stage::Time => only(CapabilitySet::SYS_TIME, &["/dev/rtc", "/dev/rtc0", "/dev/rtc1"]),
        Stage::Zone => only(none, &["/etc", "/run", SETTINGS]),
        Stage::NetworkFiles => {
            let mut write = NETWORK_DIRECTORIES.to_vec();
            write.push(SETTINGS);
            only(none, &write)
        }
        Stage::NetworkUp if systemd => only(none, &[]),
        // ifup starts a DHCP client, which stays, and which writes where only it knows.
        Stage::NetworkUp => Some(Rules {
            capabilities: Some(
                CapabilitySet::NET_ADMIN
                    | CapabilitySet::NET_RAW
                    | CapabilitySet::NET_BIND_SERVICE
                    | CapabilitySet::SETUID
                    | CapabilitySet::SETGID
                    | CapabilitySet::CHOWN
                    | CapabilitySet::DAC_OVERRIDE
                    | CapabilitySet::KILL,
            ),
            write: None,
        }),
        // The updater mounts, and writes block devices and the boot loader's environment.
        Stage::Install | Stage::Mark => Some(Rules { capabilities: None, write: None }),
        Stage::Wipe => {
            let mut write = NETWORK_DIRECTORIES.to_vec();
            write.extend([AGENT_STATE, SETTINGS]);
            only(CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER, &write)
        }
    }
}

/// Gives up what the stage does not need, for good.
pub fn enter(stage: Stage) -> Result<(), String> {
    let Some(rules) = rules(stage) else {
        return Ok(());
    };
    limit(Resource::Core, 0).map_err(|error| format!("resource limits: {error}"))?;
    if let Some(kept) = rules.capabilities {
        keep(kept).map_err(|error| format!("capabilities: {error}"))?;
    }
    set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    if let Some(write) = rules.write {
        for (resource, value) in [(Resource::Nofile, 256), (Resource::Fsize, 1024 * 1024), (Resource::Cpu, 600)] {
            // The unit's limit may be lower.
            let _ = limit(resource, value);
        }
        confine(&write).map_err(|error| format!("Landlock: {error}"))?;
    }
    Ok(())
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
}

/// Of the capabilities that we have, keeps these; a program that is started gets no others.
fn keep(kept: CapabilitySet) -> io::Result<()> {
    let ours = capabilities(None)?;
    clear_ambient_capability_set()?;
    if ours.effective.contains(CapabilitySet::SETPCAP) {
        let unwanted = (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(|one| !kept.contains(*one));
        // The kernel does not know the last ones.
        for one in unwanted.take_while(|one| capability_is_in_bounding_set(*one).is_ok()) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    let permitted = ours.permitted & kept;
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() })
}

/// As well as the kernel can: Landlock is in it since 5.13, moving files between directories under it since 5.19.
fn confine(write: &[&str]) -> Result<(), RulesetError> {
    let abi = ABI::V5;
    let moves =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer).is_ok();
    if !moves && write.contains(&AGENT_STATE) {
        return Ok(());
    }
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(READ, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::from_all(abi)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(())
}
