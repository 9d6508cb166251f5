//! The clock.

use crate::programs::{find, run};
use ioto_wire::Time;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::path::Path;
use std::time::Duration;

/// Signs of a service that sets the clock, too.
const TIME_SERVICES: [(&str, &str); 4] = [
    ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
    ("/run/chrony/chronyd.pid", "chronyd"),
    ("/run/chronyd.pid", "chronyd"),
    ("/run/ntpd.pid", "ntpd"),
];

/// Sets the system's clock and the one that runs while the device is off.
pub fn set(time: Time) -> Result<String, String> {
    let since = time.since_1970();
    // On 32-bit machines, too, it is a 64-bit number [clock_settime64].
    let spec = Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() };
    clock_settime(ClockId::Realtime, spec).map_err(|error| format!("the clock can not be set: {error}"))?;
    let mut text = String::from("the clock is set");
    match (find("hwclock"), Path::new("/dev/rtc0").exists()) {
        (Some(hwclock), true) => {
            if let Err(error) = run(&hwclock, &["-w", "-u"], Duration::from_secs(20)) {
                text.push_str(&format!("; the hardware clock is not: {error}"));
            }
        }
        (None, true) => text.push_str("; the hardware clock is not: there is no hwclock program"),
        (_, false) => {}
    }
    if let Some((_, name)) = TIME_SERVICES.iter().find(|(sign, _)| Path::new(sign).exists()) {
        text.push_str(&format!("; {name} is active and may set it again"));
    }
    Ok(text)
}
