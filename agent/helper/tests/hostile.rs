//! Who owns the agent's user, and with it `/run/ioto`, `/var/lib/ioto` and a way to the socket.

#![allow(clippy::unwrap_used)]

mod support;

use ioto_wire::{Client, Outcome};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Device, IOTO, RESCUE, able};

#[test]
fn a_link_in_the_place_of_the_socket_is_removed_and_not_followed() {
    if !able() {
        return;
    }
    let mut device = Device::new();
    device.write("etc/precious", "as it was");
    symlink("/etc/precious", device.socket()).unwrap();
    device = device.serve();
    let made = fs::symlink_metadata(device.socket()).unwrap();
    assert!(made.file_type().is_socket());
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (0, IOTO, 0o660));
    let precious = fs::metadata(device.path("etc/precious")).unwrap();
    assert_eq!((precious.uid(), device.read("etc/precious").as_str()), (0, "as it was"));
    device.done("ping", "{}");
}

#[test]
fn a_run_directory_that_is_a_link_is_refused() {
    if !able() {
        return;
    }
    let device = Device::new();
    fs::rename(device.path("run/ioto"), device.path("run/elsewhere")).unwrap();
    symlink("elsewhere", device.path("run/ioto")).unwrap();
    let output = device.run(&["/ioto-helper"]);
    assert!(!output.status.success(), "{output:?}");
    assert!(!device.exists("run/elsewhere/helper.sock"));
}

#[test]
fn a_server_of_another_user_in_the_place_of_the_helper_is_not_believed() {
    if !able() {
        return;
    }
    let device = Device::new();
    let script = "import os,socket,sys,time\nos.setgid(int(sys.argv[2]))\nos.setuid(int(sys.argv[2]))\ns=socket.socket(socket.AF_UNIX)\n\
        s.bind(sys.argv[1])\ns.listen()\ntime.sleep(60)";
    fs::set_permissions(device.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut impostor =
        Command::new("python3").args(["-c", script]).arg(device.socket()).arg(IOTO.to_string()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let error = loop {
        match Client::at(device.socket()).version() {
            Err(error) if error.to_string().contains("and not root") => break error.to_string(),
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(error.contains(&format!("user {IOTO} listens there")), "{error}");
    impostor.kill().unwrap();
    impostor.wait().unwrap();
}

#[test]
fn a_helper_that_speaks_to_the_terminal_is_not_heard() {
    let path = std::env::temp_dir().join(format!("helper-terminal-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        ioto_wire::read_frame(&mut stream).unwrap();
        let text = br#"{"version":1,"outcome":"done","text":"a\u001b]0;x\u0007\u009b2J"}"#;
        ioto_wire::write_frame(&mut stream, text).unwrap();
    });
    let answer = Client::at(&path).ask(&ioto_wire::Request::Ping).unwrap();
    assert!(answer.outcome == Outcome::Done && !answer.text.contains(char::is_control), "{answer:?}");
    served.join().unwrap();
    fs::remove_file(path).unwrap();
}

/// An agent gone wild has all its places taken, and one slow thing after the other done.
#[test]
fn the_rescue_server_restarts_an_agent_that_keeps_the_helper_busy() {
    if !able() {
        return;
    }
    let mut device = Device::new();
    device.fake("sbin/ifdown", "exit 1");
    device.fake("sbin/ifup", "while ! [ -e /tmp/go ]; do sleep 0.05; done");
    device.write("etc/init.d/ioto", "#!/bin/sh\ntouch /tmp/restarted-$1-$2\n");
    fs::set_permissions(device.path("etc/init.d/ioto"), fs::Permissions::from_mode(0o755)).unwrap();
    device = device.serve();
    std::thread::scope(|scope| {
        let network = scope.spawn(|| device.done("network", r#"{"interface":"eth0","ip":"dhcp"}"#));
        while !device.audit().contains("begun") {
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = device.not_done("zone", r#"{"zone":"UTC"}"#);
        assert!(text.contains("busy: network is under way"), "{text}");
        let (done, text) = device.ask_as(RESCUE, "restart", "{}");
        assert!(done && device.exists("tmp/restarted-restart-agent"), "{text}");
        device.write("tmp/go", "");
        network.join().unwrap();
    });
}

#[test]
fn requests_by_which_nothing_is_done_do_not_push_out_of_the_log_what_was_done() {
    if !able() {
        return;
    }
    let device = Device::serving();
    device.done("hostname", r#"{"name":"pump-7"}"#);
    for _ in 0..300 {
        // Not a frame at all, and a ping. One that comes too soon after others may be refused before it has sent it.
        for bytes in [&b"\0\0\0\0"[..], b"\0\0\0\x1b{\"version\":1,\"verb\":\"ping\"}"] {
            let mut stream = device.connect().unwrap();
            let _ = stream.write_all(bytes);
            let _ = ioto_wire::read_frame(&mut stream);
        }
    }
    let lines = device.audit().lines().count();
    println!("{lines} lines after 600 requests");
    assert!(lines <= 2 + 60 * 4, "{lines} lines");
    assert!(device.audit().contains("pump-7"));
}

#[test]
fn answers_that_nobody_reads_and_requests_that_never_end_leave_no_descriptors() {
    if !able() {
        return;
    }
    let mut device = Device::serving();
    device.done("ping", "{}");
    let descriptors = |device: &Device| fs::read_dir(format!("/proc/{}/fd", device.pid())).unwrap().count();
    let before = descriptors(&device);
    let mut kept = Vec::new();
    for number in 0..60 {
        let mut stream = device.connect().unwrap();
        let _ = match number % 3 {
            0 => stream.write_all(b"\0\0\0\x1b{\"version\":1,\"verb\":\"ping\"}"),
            1 => stream.write_all(b"\0\0\x40\0{"),
            _ => stream.write_all(&[b'x'; 8192]),
        };
        kept.push(stream);
    }
    // They are cut off, though none of them was closed at this end.
    device.wait_for("room", |device| device.ask("ping", "{}").0 && descriptors(device) <= before + 1);
    drop(kept);
}
