//! Actions in a process of their own: whatever happens to it, the server answers.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use ioto::config::{ProxyTarget, Route, Web};
use ioto::web::{Error, Exchange, Server, Worker};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use smol::io::AsyncWriteExt;
use web_support::{Dir, Running, body, get, settings, status};

/// Not a test: the worker of the tests below, which start this file's program with this name.
#[test]
#[ignore = "the process of a worker"]
fn worker() {
    let hook = std::panic::take_hook();
    // As the agent is built.
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::abort();
    }));
    let settings = Web { listen: vec![], ..Web::default() };
    let server = Server::new(settings)
        .action("/crash/panic", async |_: &mut Exchange| panic!("on purpose"))
        .action("/crash/abort", async |_: &mut Exchange| std::process::abort())
        .action("/crash/exit", async |_: &mut Exchange| std::process::exit(7))
        .action("/crash/null", async |exchange: &mut Exchange| {
            exchange.send("text/plain", read_far_out().to_string()).await
        })
        .action("/crash/late", async |exchange: &mut Exchange| {
            let mut out = exchange.stream("text/plain")?;
            out.write_all(b"half of it").await?;
            out.flush().await?;
            smol::Timer::after(Duration::from_millis(200)).await;
            std::process::abort()
        })
        .action("/crash/block", async |_: &mut Exchange| {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        })
        .action("/crash/error", async |_: &mut Exchange| Err(Error::failed("only an error")))
        .action("/crash/sleep", async |exchange: &mut Exchange| {
            smol::Timer::after(Duration::from_millis(600)).await;
            exchange.send("text/plain", "slept").await
        })
        .action("/crash/pid", async |exchange: &mut Exchange| {
            let user = exchange.header("x-forwarded-for").unwrap_or_default().to_owned();
            exchange.send("text/plain", format!("{} {user}", std::process::id())).await
        });
    Worker::serve(server).unwrap();
}

/// As a C library does with a null pointer to a structure.
#[allow(unsafe_code, reason = "to crash is what it is for")]
fn read_far_out() -> u8 {
    // SAFETY: none; the process ends.
    unsafe { std::ptr::without_provenance::<u8>(16).read_volatile() }
}

/// This file's program as the worker.
fn this() -> Worker {
    let arguments = ["worker", "--exact", "--ignored", "--nocapture", "--quiet"];
    Worker::program(std::env::current_exe().unwrap(), arguments)
}

fn start(worker: Worker, change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    listen_to_the_log();
    let dir = Dir::new();
    let mut settings = settings(dir.0.clone());
    change(&mut settings);
    let server = Server::new(settings)
        .action("/ok", async |exchange: &mut Exchange| exchange.send("text/plain", "ok").await)
        .isolated("/crash", worker);
    (Running::start(server.listen("http://127.0.0.1:0").unwrap()), dir)
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LOG.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn listen_to_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// The line of the log with the id that the client was told.
fn logged(response: &str) -> String {
    let id = body(response).rsplit(' ').next().unwrap().trim().to_owned();
    assert_eq!(id.len(), 16, "{response}");
    let log = LOG.lock().unwrap();
    log.iter().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{id} is not in {log:?}")).clone()
}

fn pid(response: &str) -> i32 {
    body(response).split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{response}"))
}

/// Whether a process is gone, or will be soon.
fn is_gone(pid: i32) -> bool {
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        if kill(Pid::from_raw(pid), None).is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn whatever_kills_a_worker_its_client_gets_an_id_and_the_next_request_an_answer() {
    let (server, _dir) = start(this(), |_| {});
    let mut last = 0;
    for (path, how) in [
        ("/crash/panic", "was ended by signal 6 (SIGABRT)"),
        ("/crash/abort", "was ended by signal 6 (SIGABRT)"),
        ("/crash/exit", "exited with status 7"),
        ("/crash/null", "was ended by signal 11 (SIGSEGV)"),
    ] {
        let response = get(&server, path, "");
        assert_eq!(status(&response), 500, "{path} {response}");
        let line = logged(&response);
        assert!(line.contains(how) && line.contains(path), "{path}: {line}");
        assert_eq!(body(&get(&server, "/ok", "")), "ok");
        let response = get(&server, "/crash/pid", "");
        assert_eq!(status(&response), 200, "{path} {response}");
        assert!(body(&response).ends_with(" 127.0.0.1"), "{response}");
        assert_ne!(std::mem::replace(&mut last, pid(&response)), pid(&response));
    }
    // An error of an action is none of the worker.
    let response = get(&server, "/crash/error", "");
    assert_eq!(status(&response), 500);
    assert_eq!(pid(&get(&server, "/crash/pid", "")), last);
}

#[test]
fn a_worker_that_hangs_is_killed() {
    let (server, _dir) = start(this().timeout(Duration::from_millis(1500)), |_| {});
    let first = pid(&get(&server, "/crash/pid", ""));
    let start = Instant::now();
    let response = get(&server, "/crash/block", "");
    assert_eq!(status(&response), 504, "{response}");
    assert!(logged(&response).contains("took too long and was killed"));
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(is_gone(first));
    assert_eq!(status(&get(&server, "/crash/pid", "")), 200);
}

#[test]
fn an_answer_that_was_begun_looks_cut() {
    let (server, _dir) = start(this(), |_| {});
    let response = get(&server, "/crash/late", "");
    assert_eq!(status(&response), 200);
    assert!(response.contains("half of it") && !response.ends_with("0\r\n\r\n"), "{response}");
    let log = LOG.lock().unwrap().join("\n");
    assert!(log.contains("\"/crash/late\": the worker") && log.contains("in the middle of its answer"), "{log}");
}

#[test]
fn other_requests_live_on() {
    let (server, _dir) = start(this(), |_| {});
    assert_eq!(status(&get(&server, "/crash/pid", "")), 200);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| get(&server, "/crash/sleep", ""));
        let mut open = server.connect();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(status(&get(&server, "/crash/abort", "")), 500);
        // What the same process worked on is lost too, and said so.
        assert_eq!(status(&slow.join().unwrap()), 500);
        // What the server does itself is not.
        open.write_all(b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        open.read_to_string(&mut answer).unwrap();
        assert_eq!(body(&answer), "ok");
    });
}

#[test]
fn a_worker_that_dies_again_and_again_is_started_later_and_later() {
    let (server, _dir) = start(this(), |settings| settings.proxy.wait = Duration::from_millis(150));
    let (mut crashes, mut refused) = (0, 0);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let response = get(&server, "/crash/abort", "");
        match status(&response) {
            500 => crashes += 1,
            503 => {
                assert!(response.contains("Retry-After: "), "{response}");
                refused += 1;
            }
            _ => panic!("{response}"),
        }
        assert_eq!(body(&get(&server, "/ok", "")), "ok");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!((2..10).contains(&crashes) && refused > 10, "{crashes} {refused}");
}

/// The path of the socket that is a process's standard input.
fn socket_of(pid: i32) -> PathBuf {
    let input = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_string_lossy().into_owned();
    let inode = input.trim_start_matches("socket:[").trim_end_matches(']').to_owned();
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let line = sockets.lines().find(|line| line.split_whitespace().nth(6) == Some(&inode)).unwrap();
    line.split_whitespace().nth(7).unwrap().into()
}

#[test]
fn the_stop_ends_the_worker_and_takes_its_files_away() {
    let (server, _dir) = start(this(), |_| {});
    let worker = pid(&get(&server, "/crash/pid", ""));
    let socket = socket_of(worker);
    let place = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(place.permissions().mode() & 0o777, 0o700);
    let start = Instant::now();
    server.handle.stop();
    server.join();
    assert!(kill(Pid::from_raw(worker), None).is_err(), "it ends before the server");
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(!socket.exists() && !socket.parent().unwrap().exists(), "{socket:?}");
}

#[test]
fn a_worker_that_ignores_the_stop_is_killed() {
    let script = "import os, signal, socket\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ns = socket.socket(fileno=0)\n\
                  while True:\n    c, _ = s.accept()\n    c.recv(65536)\n    body = str(os.getpid()).encode()\n    \
                  c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)\n    c.close()\n";
    let (server, _dir) = start(Worker::program("/usr/bin/python3", ["-c", script]), |_| {});
    let worker = pid(&get(&server, "/crash/x", ""));
    let start = Instant::now();
    server.handle.stop();
    server.join();
    assert!(kill(Pid::from_raw(worker), None).is_err(), "it ends before the server");
    let passed = start.elapsed();
    assert!(passed > Duration::from_millis(900) && passed < Duration::from_secs(3), "{passed:?}");
}

#[test]
fn a_program_that_never_accepts_a_connection_is_killed() {
    let worker = Worker::program("/bin/sleep", ["60"]).timeout(Duration::from_millis(300));
    let (server, _dir) = start(worker, |_| {});
    let response = get(&server, "/crash/x", "");
    assert_eq!(status(&response), 504);
    assert!(logged(&response).contains("the worker /bin/sleep ("));
}

#[test]
fn a_program_that_cannot_be_started_gives_503_and_the_reason_is_in_the_log() {
    let (server, _dir) = start(Worker::program("/nonexistent/program", ["x"]), |settings| {
        settings.proxy.wait = Duration::from_millis(300);
    });
    assert_eq!(status(&get(&server, "/crash/x", "")), 503);
    let log = LOG.lock().unwrap().join("\n");
    assert!(log.contains("the worker /nonexistent/program cannot be started: No such file"), "{log}");
}

#[test]
fn a_worker_dies_with_the_process_of_its_server() {
    let dir = Dir::new();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["server_of_a_worker", "--exact", "--ignored", "--nocapture", "--quiet"])
        .env("TEST_PID_FILE", dir.0.join("pid"))
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(15);
    let worker: i32 = loop {
        assert!(Instant::now() < until, "there is no worker");
        match std::fs::read_to_string(dir.0.join("pid")).ok().and_then(|text| text.parse().ok()) {
            Some(pid) => break pid,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(kill(Pid::from_raw(worker), None).is_ok());
    let socket = socket_of(worker);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_gone(worker));
    // Nobody was left to take it away, but the next server does.
    let _ = std::fs::remove_dir_all(socket.parent().unwrap());
}

/// Not a test: a server that is killed.
#[test]
#[ignore = "the process of a server"]
fn server_of_a_worker() {
    let file = PathBuf::from(std::env::var_os("TEST_PID_FILE").unwrap());
    let (server, _dir) = start(this(), |_| {});
    let worker = pid(&get(&server, "/crash/pid", ""));
    std::fs::write(file.with_extension("new"), worker.to_string()).unwrap();
    std::fs::rename(file.with_extension("new"), file).unwrap();
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn a_route_can_start_its_program() {
    let script = "import socket\ns = socket.socket(fileno=0)\nwhile True:\n    c, _ = s.accept()\n    head = c.recv(65536)\n    \
                  body = head.split(b' ')[1]\n    c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\npython ' + body)\n    c.close()\n";
    let command = vec!["/usr/bin/python3".to_owned(), "-c".to_owned(), script.to_owned()];
    let route = Route {
        matches: "/py/".into(),
        handler: "proxy".into(),
        proxy: Some(ioto::config::Proxy { target: ProxyTarget::Program(command), base: String::new() }),
        ..Route::default()
    };
    let (server, _dir) = start(this(), |settings| settings.routes = vec![route]);
    for path in ["/py/a", "/py/b?c"] {
        let response = get(&server, path, "");
        assert!(response.contains(&format!("\npython {path}\r\n")), "{response}");
    }
}
