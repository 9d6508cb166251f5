//! The machine: clock, file descriptors, random numbers.

use std::fs;

use super::{Around, Report};

/// 2026-01-01: before that nobody had this program. Reproducible builds say when the sources were as they are.
const WRITTEN: i64 = 1_767_225_600;
/// Random bits that newer kernels (5.18 and later) have as soon as the generator is ready.
const READY: u64 = 256;

pub fn check(around: &Around, report: &mut Report) {
    clock(report);
    descriptors(around, report);
    let bits = fs::read_to_string("/proc/sys/kernel/random/entropy_avail").ok();
    match bits.and_then(|bits| bits.trim().parse::<u64>().ok()) {
        Some(bits) if bits >= READY / 2 => report.ok("random", format!("{bits} bits")),
        Some(bits) => {
            let advice = "give the kernel a source: a hardware generator, rngd, or a seed kept over reboots";
            report.warn("random", format!("{bits} bits: keys may have to wait"), advice);
        }
        None => report.warn("random", "the generator of the kernel is not seen", "mount /proc"),
    }
}

fn clock(report: &mut Report) {
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok()).unwrap_or(WRITTEN);
    let now = ioto::net::utc_ms();
    let text = ioto::net::iso8601(now);
    match now / 1000 >= built {
        true => report.ok("clock", text),
        false => {
            let advice = "set it (NTP, a clock chip): certificates and AWS need the right time";
            report.fail("clock", format!("{text} is before this program was made"), advice);
        }
    }
}

fn descriptors(around: &Around, report: &mut Report) {
    let Some(limit) = around.process.as_ref().and_then(|process| process.descriptors) else { return };
    let connections = around.config.web.limits.connections as u64;
    match limit {
        0..1024 => {
            let advice = "raise LimitNOFILE= of the unit, or `ulimit -Hn` in the init script";
            report.warn("descriptors", format!("the agent may open {limit}, for {connections} connections"), advice);
        }
        _ => report.ok("descriptors", format!("the agent may open {limit}")),
    }
}
