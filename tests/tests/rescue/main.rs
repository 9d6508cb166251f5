//! `ioto-rescue` and the heartbeat: what they say of an agent that hangs, dies, stops and comes back.

mod hostile;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{process, thread};

use ioto_tests::{Agent, Client, Rescue, Scratch, Signal, eventually};
use ioto_wire::{Answer, Outcome, Request};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);

fn live(rescue: &Rescue) -> (u16, Value) {
    let answer = rescue.get("/livez").expect("ioto-rescue answers");
    (answer.status, answer.json())
}

/// Waits for an answer of `/livez` with this status and health.
fn becomes(rescue: &Rescue, status: u16, health: &str) -> Value {
    eventually(&format!("{health}, {status}"), LIMIT, || {
        let (found, body) = live(rescue);
        (found == status && body["health"] == health).then_some(body)
    })
}

#[test]
fn an_agent_that_stands_still_is_told_from_one_that_lives() {
    let mut agent = Agent::new();
    agent.start();
    let run = agent.run_directory();
    let rescue = Rescue::start(&run, &[]);
    becomes(&rescue, 200, "alive");
    assert!(agent.ask(&["status"]).status.success());

    agent.signal(Signal::Stop);
    let began = Instant::now();
    let body = becomes(&rescue, 503, "hanging");
    println!("seen as hanging after {:.1} s", began.elapsed().as_secs_f64());
    assert!(body["why"].as_str().is_some_and(|why| why.contains(&format!("(pid {})", agent.id()))), "{body}");
    let check = Rescue::ask(&run, &["check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");

    let began = Instant::now();
    let status = agent.ask(&["status"]);
    let text = String::from_utf8_lossy(&status.stderr);
    assert_eq!(status.status.code(), Some(1), "{text}");
    assert!(text.contains("did not answer within 5 s") && text.contains("the agent hangs: no heartbeat for"), "{text}");
    assert!(text.contains("restart it with `ioto-rescue restart`"), "{text}");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let status = agent.ask(&["status", "--json"]);
    let json: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!((&json["alive"], &json["rescue"]["agent"]["health"]), (&false.into(), &"hanging".into()), "{json}");

    let doctor = agent.ask(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(!doctor.status.success() && text.contains("the agent hangs: no heartbeat for"), "{text}");

    agent.signal(Signal::Cont);
    becomes(&rescue, 200, "alive");
    assert_eq!(Rescue::ask(&run, &["check"]).status.code(), Some(0));
    assert!(agent.ask(&["status"]).status.success());
}

#[test]
fn a_killed_agent_is_dead_a_stopped_one_is_not_and_both_are_counted() {
    let mut agent = Agent::new();
    agent.start();
    let run = agent.run_directory();
    let rescue = Rescue::start(&run, &[]);
    agent.kill();
    becomes(&rescue, 503, "dead");
    assert_eq!(Rescue::ask(&run, &["check"]).status.code(), Some(3));
    let status = agent.ask(&["status"]);
    let text = String::from_utf8_lossy(&status.stderr);
    assert!(text.contains("no agent is running") && text.contains("gone without a word"), "{text}");

    agent.start();
    becomes(&rescue, 200, "alive");
    agent.stop();
    becomes(&rescue, 503, "stopped");
    assert_eq!(Rescue::ask(&run, &["check"]).status.code(), Some(3));
    let text = agent.ask(&["status"]).stderr;
    assert!(String::from_utf8_lossy(&text).contains("the agent was stopped"));

    agent.start();
    let status = rescue.get("/status").expect("an answer").json();
    let expected: [(&str, Value); 4] =
        [("restarts", 2.into()), ("crashes", 1.into()), ("pid", agent.id().into()), ("process", true.into())];
    for (name, value) in expected {
        assert_eq!(status["agent"][name], value, "{name} in {status}");
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot id");
    assert_eq!(status["bootId"], boot.trim(), "{status}");
    assert!(status["uptime"].as_u64() > Some(0) && status["slots"].is_object(), "{status}");
}

#[test]
fn without_ioto_rescue_the_command_line_still_tells() {
    let mut agent = Agent::new();
    agent.start();
    agent.kill();
    let text = agent.ask(&["status"]).stderr;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("gone without a word") && text.contains("ioto-rescue does not answer"), "{text}");
}

#[test]
fn an_agent_without_a_place_for_its_heartbeat_says_so_and_runs() {
    let mut agent = Agent::new();
    fs::create_dir_all(agent.run_directory().join("heartbeat")).expect("make a directory");
    agent.start();
    assert!(agent.log().contains("nobody will see it when this agent hangs"), "{}", agent.log());
    assert_eq!(agent.client().get("/").expect("an answer").status, 200);
    assert_eq!(Rescue::ask(&agent.run_directory(), &["check"]).status.code(), Some(4));
}

#[test]
fn what_is_no_heartbeat_is_unknown_and_breaks_nothing() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let file = scratch.path().join("heartbeat");
    for content in [&b""[..], b"iotobeat", &[0xff; 96], &[b'x'; 100_000]] {
        fs::write(&file, content).expect("write a file");
        let (status, body) = live(&rescue);
        assert_eq!((status, &body["health"], &body["live"]), (503, &"unknown".into(), &false.into()), "{body}");
        assert_eq!(rescue.get("/status").expect("an answer").status, 200);
    }
    fs::remove_file(&file).expect("remove a file");
    assert_eq!(live(&rescue).1["why"], "no heartbeat: no agent ran here since boot");
}

#[test]
fn the_end_of_a_log_is_shown() {
    let scratch = Scratch::new();
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    let log = scratch.write("messages", &lines);
    let rescue = Rescue::start(scratch.path(), &["--log", log.to_str().expect("UTF-8")]);
    let status = rescue.get("/status").expect("an answer").json();
    let shown = status["log"]["lines"].as_array().expect("lines");
    assert_eq!((shown.len(), &shown[29]), (30, &"line 999".into()));
}

#[test]
fn methods_and_paths_that_are_not_there_are_refused_in_json() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let rows = [
        ("GET", "/", 404),
        ("GET", "/livez/", 404),
        ("POST", "/livez", 405),
        ("GET", "/restart", 405),
        ("PUT", "/status", 405),
    ];
    for (method, path, status) in rows {
        let answer = rescue.connect().expect("connect").request(method, path, &[], b"").expect("an answer");
        assert_eq!((answer.status, &answer.json()["error"]["status"]), (status, &status.into()), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
    let answer = rescue.connect().expect("connect").request("HEAD", "/livez?x=1", &[], b"").expect("an answer");
    assert!(answer.status == 503 && answer.body.is_empty());
}

/// Answers as ioto-helper does, after sending what it was asked through the channel.
fn helper(path: &Path, outcome: Outcome) -> std::sync::mpsc::Receiver<Request> {
    let listener = UnixListener::bind(path).expect("bind the helper's socket");
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let request = ioto_wire::read_frame(&mut stream).expect("a frame");
            let _ = sender.send(Request::decode(&request).expect("a request"));
            let _ = ioto_wire::write_frame(&mut stream, &Answer::new(outcome, "as asked").encode());
        }
    });
    receiver
}

#[test]
fn a_restart_is_asked_of_the_helper_once() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let restart = || rescue.connect().expect("connect").request("POST", "/restart", &[], b"{}").expect("an answer");
    let answer = restart();
    assert_eq!(answer.status, 502, "nobody is there to restart it");
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("helper.sock")));

    let asked = helper(&scratch.path().join("helper.sock"), Outcome::Done);
    let answer = restart();
    assert_eq!((answer.status, answer.json()["restarting"].clone()), (202, true.into()));
    assert_eq!(asked.recv_timeout(LIMIT), Ok(Request::Restart));
    assert_eq!(restart().status, 429);
    assert_eq!(Rescue::ask(scratch.path(), &["restart"]).status.code(), Some(1));
    assert!(asked.try_recv().is_err(), "it was asked a second time");
}

#[test]
fn a_refusal_of_the_helper_is_passed_on() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    let asked = helper(&scratch.path().join("helper.sock"), Outcome::Refused);
    let output = Rescue::ask(scratch.path(), &["restart"]);
    assert_eq!(asked.recv_timeout(LIMIT), Ok(Request::Restart));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && text.contains("refused: as asked"), "{text}");
    drop(rescue);
}

#[test]
fn a_second_one_is_refused_and_a_stale_socket_is_replaced() {
    let scratch = Scratch::new();
    let mut first = Rescue::start(scratch.path(), &[]);
    let second = Rescue::ask(scratch.path(), &["--user", "root", "--group", "root"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another ioto-rescue listens there"));
    first.kill();
    assert!(first.socket().exists());
    Rescue::start(scratch.path(), &[]);
    drop(first);
    fs::remove_file(scratch.path().join("rescue.sock")).expect("remove a socket");
    scratch.write("rescue.sock", "precious");
    let refused = Rescue::ask(scratch.path(), &["--user", "root", "--group", "root"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is there and not a socket"));
    assert_eq!(fs::read(scratch.path().join("rescue.sock")).expect("read it"), b"precious");
}

#[test]
fn started_as_root_it_is_root_no_more() {
    if fs::metadata("/proc/self").map(|of| of.uid()).unwrap_or(1) != 0 {
        println!("skipped: only root can give up root");
        return;
    }
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).expect("open the directory");
    // Without its user it would have to stay root.
    let refused = Rescue::ask(scratch.path(), &["--user", "nobody-of-this-name"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && text.contains("there is no user `nobody-of-this-name`"), "{text}");

    let rescue = Rescue::launch(scratch.path(), &["--user", "nobody", "--group", "nogroup"]);
    let answer = eventually("an answer", LIMIT, || rescue.get("/livez").ok());
    assert_eq!(answer.status, 503);
    let (user, group) = ("65534\t65534\t65534\t65534", "65534\t65534\t65534\t65534");
    assert_eq!((rescue.status("Uid").as_str(), rescue.status("Gid").as_str()), (user, group));
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(rescue.status(set), "0000000000000000", "{set}");
    }
    assert_eq!((rescue.status("NoNewPrivs"), rescue.status("Groups")), ("1".into(), "65534".into()));
    // The front, three that answer, the four of tiny_http; those that were there for the first requests end.
    eventually("no more than eight threads", LIMIT, || {
        rescue.status("Threads").parse().is_ok_and(|n: u32| n <= 8).then_some(())
    });
    let socket = fs::metadata(rescue.socket()).expect("the socket");
    assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 65534, 65534));
}

#[test]
fn only_root_and_the_agent_may_restart_it() {
    if fs::metadata("/proc/self").map(|of| of.uid()).unwrap_or(1) != 0 {
        println!("skipped: only root can be somebody else");
        return;
    }
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).expect("open the directory");
    let rescue = Rescue::start(scratch.path(), &[]);
    fs::set_permissions(rescue.socket(), Permissions::from_mode(0o666)).expect("open the socket");
    let script = "import socket,sys,os\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
        s.sendall(b'POST /restart HTTP/1.1\\r\\nHost: x\\r\\nX-User: 0\\r\\n\\r\\n')\nprint(s.recv(12).decode())";
    let output = Command::new("python3").args(["-c", script]).arg(rescue.socket()).output().expect("python3");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "HTTP/1.1 403", "{output:?}");
}

#[test]
fn nobody_gets_behind_the_front() {
    let scratch = Scratch::new();
    let rescue = Rescue::start(scratch.path(), &[]);
    // Names in the abstract namespace that listen: none is of ioto-rescue.
    let pid = rescue.status("Pid");
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let links: Vec<_> = sockets.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let unix = fs::read_to_string("/proc/net/unix").expect("the sockets");
    // Flags: 00010000 is a socket that listens.
    let listening = unix
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.get(3) == Some(&"00010000"));
    let ours: Vec<_> = listening
        .filter(|row| {
            row.get(6)
                .is_some_and(|inode| links.iter().any(|link| link.as_os_str() == format!("socket:[{inode}]").as_str()))
        })
        .map(|row| row.get(7).map(|name| (*name).to_owned()).unwrap_or_default())
        .collect();
    assert_eq!(ours, [rescue.socket().display().to_string()]);
    let mut client = Client::unix(&rescue.socket()).expect("connect");
    let answer = client.request("GET", "/livez", &[("X-Front", "guess"), ("X-User", "0")], b"").expect("an answer");
    assert_eq!(answer.status, 503);
}

#[test]
fn the_service_manager_makes_its_socket_and_hears_that_it_lives() {
    let scratch = Scratch::new();
    let manager = UnixDatagram::bind(scratch.path().join("notify")).expect("bind the manager's socket");
    manager.set_read_timeout(Some(LIMIT)).expect("set a timeout");
    let next = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("a message of ioto-rescue");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // As systemd does: the socket is descriptor 3, and is told by the environment.
    let script = "import os,socket,sys\nrun,program=sys.argv[1:]\ns=socket.socket(socket.AF_UNIX)\ns.bind(run+'/passed.sock')\n\
        s.listen(64)\nos.dup2(s.fileno(),3)\nos.set_inheritable(3,True)\nos.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()),\
        NOTIFY_SOCKET=run+'/notify',WATCHDOG_USEC='200000')\n\
        os.execv(program,[program,'--run',run,'--user','root','--group','root'])";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(scratch.path()).arg(ioto_tests::program("ioto-rescue"));
    let mut child = python.stderr(process::Stdio::null()).spawn().expect("run python3");
    assert!(next().starts_with("READY=1\n"));
    assert_eq!((next().as_str(), next().as_str()), ("WATCHDOG=1", "WATCHDOG=1"));
    let answer = Client::unix(&scratch.path().join("passed.sock")).and_then(|mut client| client.get("/livez"));
    assert_eq!(answer.expect("an answer").status, 503);
    assert!(!scratch.path().join("rescue.sock").exists());
    child.kill().and_then(|()| child.wait()).expect("end ioto-rescue");
}
