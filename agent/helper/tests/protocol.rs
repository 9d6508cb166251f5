//! Who and what the helper refuses, its bounds, and its audit log.

#![allow(clippy::unwrap_used)]

mod support;

use ioto_wire::Outcome;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::{Device, IOTO, RESCUE, STRANGER, able, answer};

#[test]
fn only_known_users_may_ask_and_the_rescue_server_only_for_little() {
    if !able() {
        return;
    }
    let device = Device::serving();
    let socket = fs::metadata(device.socket()).unwrap();
    assert_eq!((socket.mode() & 0o7777, socket.uid(), socket.gid()), (0o660, 0, IOTO));
    for uid in [0, IOTO, RESCUE] {
        let (done, text) = device.ask_as(uid, "ping", "{}");
        assert!(done && text.contains(env!("CARGO_PKG_VERSION")), "{uid}: {text}");
    }
    let (done, text) = device.ask_as(STRANGER, "ping", "{}");
    assert!(!done && text.contains("uid 54399 may not ask anything"), "{text}");
    for (verb, arguments) in [("hostname", r#"{"name":"x"}"#), ("reset", "{}"), ("install", r#"{"bundle":"x"}"#)] {
        let (done, text) = device.ask_as(RESCUE, verb, arguments);
        assert!(!done && text.contains("may not ask for"), "{text}");
    }
    let (done, text) = device.ask_as(RESCUE, "reboot", "{}");
    assert!(done && text.contains("the device restarts (reboot)"), "{text}");
    let audit = device.audit();
    assert!(
        audit.contains(r#""uid":54399,"#)
            && audit.contains(r#""verb":"hostname","arguments":{"name":"x"},"outcome":"refused""#),
        "{audit}"
    );
}

#[test]
fn what_is_not_a_valid_request_is_refused_with_a_reason_and_audited() {
    if !able() {
        return;
    }
    let device = Device::serving();
    for (payload, reason) in [
        (r#"{"version":1,"verb":"shell"}"#, "a verb that is not known"),
        (r#"{"version":2,"verb":"ping"}"#, "version 2"),
        (r#"{"version":1,"verb":"ping","x":1}"#, "not a known key"),
        (r#"{"version":1,"verb":"ping"}x"#, "not JSON"),
        (r#"{"version":1,"verb":"ping","verb":"reboot"}"#, "twice"),
        (r#"{"version":1,"verb":"install","bundle":"../../etc/shadow"}"#, "plain file name"),
        (r#"{"version":1,"verb":"install","bundle":"/etc/shadow"}"#, "plain file name"),
        (r#"{"version":1,"verb":"zone","zone":"../../../etc/shadow"}"#, "time zone"),
        (r#"{"version":1,"verb":"hostname","name":"a\nb"}"#, "host name"),
        (r#"{"version":1,"verb":"network","interface":"../x","ip":"dhcp"}"#, "interface"),
        ("\u{0}", "not JSON"),
    ] {
        let answer = device.send_payload(payload);
        assert_eq!(answer.outcome, Outcome::Refused, "{payload}");
        assert!(answer.text.contains(reason), "{payload}: {}", answer.text);
    }
    // And the connection that waited for the socket.
    assert!(device.audit().lines().filter(|line| line.contains(r#""verb":null"#)).count() >= 11);
}

#[test]
fn oversized_empty_and_torn_frames_are_refused() {
    if !able() {
        return;
    }
    let device = Device::serving();
    for (bytes, reason) in [
        (&b"\xff\xff\xff\xff{}"[..], "a frame of 4294967295 bytes"),
        (b"\0\0\x40\x01", "a frame of 16385 bytes"),
        (b"\0\0\0\0", "a frame of 0 bytes"),
        (b"", "closed without a frame"),
        (b"\0\0", "ended within a frame"),
        (b"\0\0\0\x20{\"version\":1", "ended within a frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes"),
    ] {
        let answer = device.send(bytes);
        assert_eq!(answer.outcome, Outcome::Refused);
        assert!(answer.text.contains(reason), "{}", answer.text);
    }
    device.done("ping", "{}");
}

#[test]
fn a_slow_frame_is_cut_off_and_does_not_stop_others() {
    if !able() {
        return;
    }
    let device = Device::serving();
    let mut slow = device.connect().unwrap();
    let begin = Instant::now();
    let mut dripping = slow.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        // A byte a moment: no pause is as long as the time limit.
        while dripping.write_all(b"\0").is_ok() && begin.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(1500));
        }
    });
    device.done("ping", "{}");
    let answer = answer(&mut slow);
    assert!(answer.text.contains("a frame of 0 bytes"), "{}", answer.text);
    drop(slow);
    drip.join().unwrap();

    let mut silent = device.connect().unwrap();
    silent.write_all(b"\0\0").unwrap();
    let begin = Instant::now();
    let answer = support::answer(&mut silent);
    assert!(answer.text.contains("did not arrive in time"), "{}", answer.text);
    assert!((4..8).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[test]
fn beyond_the_bound_clients_are_refused_but_another_user_still_gets_in() {
    if !able() {
        return;
    }
    let mut device = Device::serving();
    // The connection that waited for the socket is gone when its end is in the log.
    device.wait_for("a first end", |device| device.audit().contains("closed without a frame"));
    std::thread::sleep(Duration::from_millis(400));
    let mut held = three(&device);
    let text = answer(&mut device.connect().unwrap());
    assert_eq!(text.outcome, Outcome::Busy);
    assert!(text.text.contains("3 of your user"), "{}", text.text);
    assert!(device.ask_as(RESCUE, "ping", "{}").0);
    let mut fourth = device.connect_as(IOTO).unwrap();
    device.wait_for("a refusal", |device| {
        // A place is held for 5 s, which a busy machine can let pass.
        if read_now(&mut fourth) {
            held = three(device);
            fourth = device.connect_as(IOTO).unwrap();
        }
        let (done, text) = device.ask_as(RESCUE, "ping", "{}");
        !done && text.contains("busy: 4 clients are connected")
    });
    drop(held);
    device.wait_for("room", |device| device.ask_as(RESCUE, "ping", "{}").0);
    // Those that hold a place get their turn all the same.
    held = three(&device);
    held[0].write_all(b"\0\0\0\x1b{\"version\":1,\"verb\":\"ping\"}").unwrap();
    assert_eq!(answer(&mut held[0]).outcome, Outcome::Done);
}

/// Three clients of our user that say nothing.
fn three(device: &Device) -> Vec<UnixStream> {
    (0..3).map(|_| device.connect().unwrap()).collect()
}

/// Whether an answer is there, or the end.
fn read_now(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0]).is_ok()
}

#[test]
fn one_verb_at_a_time_but_a_restart_during_an_installation() {
    if !able() {
        return;
    }
    let mut device = Device::new();
    device.fake("lib/ioto/update.d/install", "while ! [ -e /tmp/go ]; do sleep 0.05; done; echo installed $*");
    device.write("etc/init.d/ioto", "#!/bin/sh\ntouch /tmp/restarted-$1\n");
    fs::set_permissions(device.path("etc/init.d/ioto"), fs::Permissions::from_mode(0o755)).unwrap();
    device.write("var/lib/ioto/updates/a.raucb", "x");
    device = device.serve();
    std::thread::scope(|scope| {
        let install = scope.spawn(|| device.done("install", r#"{"bundle":"a.raucb"}"#));
        while !device.audit().contains("begun") {
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = device.not_done("hostname", r#"{"name":"x"}"#);
        assert!(text.contains("busy: install is under way"), "{text}");
        device.done("restart", "{}");
        assert!(device.exists("tmp/restarted-restart"));
        device.write("tmp/go", "");
        assert!(install.join().unwrap().contains("installed /var/lib/ioto/updates/a.raucb"));
    });
    device.done("hostname", r#"{"name":"x"}"#);
}

#[test]
fn started_by_its_socket_it_ends_when_idle_and_comes_back() {
    if !able() {
        return;
    }
    let mut device = Device::new();
    for _ in 0..2 {
        let _ = fs::remove_file(device.socket());
        device.start(&["systemd-socket-activate", "-l", "/run/ioto/helper.sock", "/ioto-helper", "--idle", "1"]);
        device.wait_for("the socket", |device| device.socket().exists());
        let (done, text) = device.ask_as(0, "ping", "{}");
        assert!(done, "{text}");
        // Descriptor 3 is not left to the children, nor kept twice.
        let sockets = fs::read_dir(format!("/proc/{}/fd", device.pid())).unwrap().count();
        assert!(sockets <= 7, "{sockets} descriptors");
        let begin = Instant::now();
        device.wait_for("its end", |device| device.ended().is_some());
        assert!(device.ended().unwrap().success());
        assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
    }
}

#[test]
fn with_a_full_disk_only_the_ways_out_are_open() {
    if !able() {
        return;
    }
    let device = Device::new().with(
        "mkdir -p $root/var/lib/ioto-helper; mount -t tmpfs -o size=16k,mode=750 full $root/var/lib/ioto-helper
         mkdir $root/var/lib/ioto-helper/settings; cat /dev/zero > $root/var/lib/ioto-helper/x 2>/dev/null || :",
    );
    let device = device.serve();
    let text = device.not_done("hostname", r#"{"name":"x"}"#);
    assert!(text.contains("refused: the audit log can not be written") && text.contains("make room"), "{text}");
    device.done("reboot", "{}");
    device.done("ping", "{}");
}

#[test]
fn the_audit_log_has_a_begin_and_an_end_is_private_and_bounded() {
    if !able() {
        return;
    }
    let device = Device::serving();
    device.done("hostname", r#"{"name":"pump-7"}"#);
    let audit = device.audit();
    let lines: Vec<serde_json::Value> =
        audit.lines().filter(|line| line.contains("pump-7")).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{audit}");
    assert_eq!((&lines[0]["outcome"], &lines[1]["outcome"]), (&"begun".into(), &"done".into()));
    assert_eq!((&lines[1]["uid"], &lines[1]["arguments"]["name"]), (&IOTO.into(), &"pump-7".into()));
    assert!(lines[1]["ms"].is_u64() && lines[1]["time"].is_u64() && lines[1]["boot"].as_str().unwrap().len() == 36);
    let log = fs::metadata(device.path("var/lib/ioto-helper/audit.log")).unwrap();
    assert_eq!((log.mode() & 0o777, log.uid(), log.gid()), (0o640, 0, IOTO));
    let directory = fs::metadata(device.path("var/lib/ioto-helper")).unwrap();
    assert_eq!((directory.mode() & 0o777, directory.uid(), directory.gid()), (0o750, 0, IOTO));

    let mut old = fs::OpenOptions::new().append(true).open(device.path("var/lib/ioto-helper/audit.log")).unwrap();
    old.write_all(&b"{}\n".repeat(90_000)).unwrap();
    device.done("hostname", r#"{"name":"pump-8"}"#);
    assert!(device.exists("var/lib/ioto-helper/audit.log.1"));
    assert!(device.audit().len() < 1000);
}
