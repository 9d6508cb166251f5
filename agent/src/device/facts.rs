//! How the device does: figures that the kernel keeps in `/proc` and `/sys`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Interface, interfaces};

/// The kernel counts process times in hundredths of a second on every architecture of ours (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What programs can still get without swapping (`MemAvailable`).
    pub available: u64,
}

/// The file system of the state directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its size.
    pub total: u64,
    /// What the agent's user can still write.
    pub available: u64,
}

/// What is known about the device at one moment. What a kernel or board does not tell is absent.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Time since the kernel started.
    pub uptime: Option<Duration>,
    /// Time since this process started.
    pub agent_uptime: Option<Duration>,
    /// Memory that this process has in RAM, in bytes.
    pub agent_memory: Option<u64>,
    /// Runnable processes, averaged over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Main memory.
    pub memory: Option<Memory>,
    /// Room for the agent's data.
    pub storage: Option<Storage>,
    /// The hottest sensor, in degrees Celsius.
    pub temperature: Option<f64>,
    /// The model of the processor.
    pub cpu: Option<String>,
    /// The number of processors.
    pub cpus: usize,
    /// The model of the board, as the device tree names it.
    pub board: Option<String>,
    /// The release of the kernel.
    pub kernel: Option<String>,
    /// The name of the operating system.
    pub os: Option<String>,
    /// The network interfaces, without loopback.
    pub interfaces: Vec<Interface>,
}

impl Facts {
    /// Reads all of them: some twenty small reads, under a millisecond. `state` is the state directory.
    pub fn read(state: &Path) -> Self {
        let uptime = read("/proc/uptime").and_then(|text| parse_uptime(&text));
        let started = read("/proc/self/stat").and_then(|text| parse_start(&text));
        let cpu = read("/proc/cpuinfo").unwrap_or_default();
        Self {
            uptime,
            agent_uptime: uptime.zip(started).and_then(|(now, start)| now.checked_sub(start)),
            agent_memory: read("/proc/self/status").and_then(|text| kilobytes(&text, "VmRSS:")),
            load: read("/proc/loadavg").and_then(|text| parse_load(&text)),
            memory: read("/proc/meminfo").and_then(|text| parse_memory(&text)),
            storage: storage_of(state),
            temperature: read_temperature(Path::new("/sys/class/thermal")),
            cpu: parse_cpu(&cpu),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            board: read("/proc/device-tree/model").and_then(|text| line(text.trim_end_matches('\0'))),
            kernel: read("/proc/sys/kernel/osrelease").and_then(|text| line(&text)),
            os: read("/etc/os-release").and_then(|text| parse_os(&text)),
            interfaces: interfaces(),
        }
    }

    /// The facts as JSON: times in seconds, sizes in bytes; absent ones are left out.
    pub fn to_json(&self) -> Value {
        let seconds = |d: Duration| d.as_secs();
        let mut all = json!({
            "uptime": self.uptime.map(seconds),
            "agentUptime": self.agent_uptime.map(seconds),
            "agentMemory": self.agent_memory,
            "load": self.load,
            "memory": self.memory.map(|m| json!({"total": m.total, "available": m.available})),
            "storage": self.storage.map(|s| json!({"total": s.total, "available": s.available})),
            "temperature": self.temperature,
            "cpu": self.cpu,
            "cpus": self.cpus,
            "board": self.board,
            "kernel": self.kernel,
            "os": self.os,
            "interfaces": self.interfaces.iter().map(Interface::to_json).collect::<Vec<_>>(),
        });
        if let Value::Object(map) = &mut all {
            map.retain(|_, value| !value.is_null());
        }
        all
    }
}

pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// One line for people, nothing when it is empty.
fn line(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `1731.42 2699.13`: seconds since the start, and idle.
fn parse_uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// The start of a process after the start of the kernel: field 22 of its `stat` (proc(5)). The name of the program, field
/// 2, may hold blanks and parentheses, so the fields are counted from its last parenthesis.
fn parse_start(text: &str) -> Option<Duration> {
    let ticks: f64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Duration::try_from_secs_f64(ticks / TICKS_PER_SECOND).ok()
}

/// `0.43 0.69 0.53 1/92 15920`
fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_whitespace().map(|field| field.parse().ok());
    Some([fields.next()??, fields.next()??, fields.next()??])
}

fn parse_memory(text: &str) -> Option<Memory> {
    Some(Memory { total: kilobytes(text, "MemTotal:")?, available: kilobytes(text, "MemAvailable:")? })
}

/// The bytes of a line as `MemTotal:       24684092 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields of the structure are narrower than 64 bits on 32-bit devices.
#[allow(clippy::useless_conversion)]
fn storage_of(directory: &Path) -> Option<Storage> {
    let figures = nix::sys::statvfs::statvfs(directory).ok()?;
    let unit = u64::from(figures.fragment_size());
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    Some(Storage { total: bytes(u64::from(figures.blocks())), available: bytes(u64::from(figures.blocks_available())) })
}

/// The hottest of `thermal_zone*/temp`, which count thousandths of a degree.
fn read_temperature(thermal: &Path) -> Option<f64> {
    let zones = fs::read_dir(thermal).ok()?.flatten();
    let readings = zones
        .filter(|zone| zone.file_name().to_string_lossy().starts_with("thermal_zone"))
        .filter_map(|zone| read(zone.path().join("temp"))?.trim().parse::<i32>().ok());
    readings.max().map(|thousandths| f64::from(thousandths) / 1000.0)
}

/// x86 names its processor. 32-bit ARM names the chip under `Hardware`, 64-bit ARM only numbers the core.
fn parse_cpu(text: &str) -> Option<String> {
    let value = |name: &str| {
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name).map(|(_, v)| v.trim())
    };
    let core = value("CPU implementer").filter(|i| *i == "0x41").and(value("CPU part")).and_then(arm_core);
    match (value("Hardware"), core, value("model name")) {
        (Some(chip), Some(core), _) => Some(format!("{chip} ({core})")),
        (None, Some(core), _) => Some(core.into()),
        (chip, None, model) => line(model.or(chip)?),
    }
}

/// The part numbers of cores by Arm, from their technical reference manuals (register MIDR).
fn arm_core(part: &str) -> Option<&'static str> {
    Some(match part {
        "0xb76" => "ARM1176",
        "0xc05" => "Cortex-A5",
        "0xc07" => "Cortex-A7",
        "0xc08" => "Cortex-A8",
        "0xc09" => "Cortex-A9",
        "0xc0f" => "Cortex-A15",
        "0xd03" => "Cortex-A53",
        "0xd04" => "Cortex-A35",
        "0xd05" => "Cortex-A55",
        "0xd07" => "Cortex-A57",
        "0xd08" => "Cortex-A72",
        "0xd09" => "Cortex-A73",
        "0xd0a" => "Cortex-A75",
        "0xd0b" => "Cortex-A76",
        _ => return None,
    })
}

/// `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"` of os-release(5).
fn parse_os(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    line(value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_proc_are_read() {
        assert_eq!(parse_uptime("1731.42 2699.13\n"), Some(Duration::from_millis(1_731_420)));
        assert_eq!(parse_load("0.43 0.69 0.53 1/92 15920\n"), Some([0.43, 0.69, 0.53]));
        let memory = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   24158588 kB\n";
        assert_eq!(parse_memory(memory), Some(Memory { total: 24_684_092 * 1024, available: 24_158_588 * 1024 }));
        assert_eq!(parse_os("ID=poky\nPRETTY_NAME=\"Poky (Yocto) 5.0\"\n").unwrap(), "Poky (Yocto) 5.0");
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 173142 20";
        assert_eq!(parse_start(stat), Some(Duration::from_millis(1_731_420)));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        for text in ["", "\n", "x", "-1 2 3", "NaN", "1e999", "MemTotal: 99999999999999999999 kB", "MemTotal: 4 MB"] {
            assert_eq!((parse_uptime(text), parse_memory(text), parse_start(text)), (None, None, None), "{text}");
        }
        assert_eq!(
            (parse_load("1 2"), parse_cpu(""), parse_os("ID=x"), parse_os("PRETTY_NAME=\"\"")),
            (None, None, None, None)
        );
        assert_eq!(storage_of(Path::new("/no/such/directory")), None);
        assert_eq!(read_temperature(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn processors_are_named_on_pc_and_arm() {
        let pc = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\n";
        assert_eq!(parse_cpu(pc).unwrap(), "Intel(R) Xeon(R) Processor");
        let zero_2 = "processor : 0\nCPU implementer : 0x41\nCPU part\t: 0xd03\n\nModel : Raspberry Pi\n";
        assert_eq!(parse_cpu(zero_2).unwrap(), "Cortex-A53");
        let pi_32 =
            "model name\t: ARMv7 Processor rev 4\nCPU implementer\t: 0x41\nCPU part: 0xd03\nHardware\t: BCM2835\n";
        assert_eq!(parse_cpu(pi_32).unwrap(), "BCM2835 (Cortex-A53)");
        assert_eq!(parse_cpu("Hardware : Allwinner\nCPU part : 0x999\n").unwrap(), "Allwinner");
    }

    #[test]
    fn the_hottest_zone_counts() {
        let root = std::env::temp_dir().join(format!("ioto-thermal-{:x}", fastrand::u64(..)));
        for (zone, reading) in
            [("thermal_zone0", "41500\n"), ("thermal_zone1", "47312\n"), ("cooling_device0", "99000\n")]
        {
            fs::create_dir_all(root.join(zone)).unwrap();
            fs::write(root.join(zone).join("temp"), reading).unwrap();
        }
        assert_eq!(read_temperature(&root), Some(47.312));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = Facts::read(&std::env::temp_dir());
        assert!(facts.uptime.unwrap() > Duration::from_secs(1));
        assert!(facts.agent_uptime.unwrap() < facts.uptime.unwrap());
        assert!(facts.agent_memory.unwrap() > 100_000 && facts.agent_memory.unwrap() < facts.memory.unwrap().total);
        assert!(facts.storage.unwrap().available <= facts.storage.unwrap().total);
        assert!(facts.cpus > 0 && facts.kernel.is_some());
        let json = facts.to_json();
        assert!(json["memory"]["total"].as_u64().unwrap() > json["memory"]["available"].as_u64().unwrap());
        assert!(json.as_object().unwrap().values().all(|value| !value.is_null()));
    }
}
