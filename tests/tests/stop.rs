//! The end of the running agent: SIGTERM while its web server works.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use ioto_tests::{Agent, eventually};

/// What a service manager waits before it kills.
const LIMIT: Duration = Duration::from_secs(5);

/// A program that answers each request after a pause with so many bytes, and the pause again before the last of them.
fn slow(pause: Duration, bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while matches!(stream.read(&mut buffer), Ok(1..)) {
                    thread::sleep(pause);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; bytes]));
                }
            });
        }
    });
    address
}

/// An agent with a program at `/slow/`.
fn agent(pause: Duration, more: &str) -> Agent {
    let agent = Agent::new();
    let program = slow(pause, 10);
    agent.configure(
        "web",
        &format!(
            "{{web: {{{more} routes: [{{match: '/slow/', handler: 'proxy', proxy: 'http://{program}'}}, {{match: ''}}]}}}}"
        ),
    );
    agent
}

/// The statuses of requests that are at work when the agent is told to stop, and how long it took.
fn statuses(agent: &mut Agent, count: usize) -> (Vec<u16>, Duration) {
    let clients: Vec<_> = (0..count).map(|_| agent.client()).collect();
    let asking: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || client.get("/slow/").map_or(0, |answer| answer.status)))
        .collect();
    thread::sleep(Duration::from_millis(300));
    let (status, took) = agent.stop();
    assert!(status.success(), "{status}: {}", agent.log());
    (asking.into_iter().map(|thread| thread.join().expect("an answer")).collect(), took)
}

#[test]
fn requests_that_run_have_two_seconds_to_end() {
    for threads in ["", "threads: 2,"] {
        let mut agent = agent(Duration::from_millis(2300), threads);
        agent.start();
        let (statuses, took) = statuses(&mut agent, 6);
        assert_eq!(statuses, [200; 6], "{took:?} {threads}: {}", agent.log());
        assert!(took < Duration::from_millis(3000), "{took:?}");
    }
}

#[test]
fn a_request_that_takes_too_long_is_cut_in_time() {
    let mut agent = agent(Duration::from_secs(20), "threads: 2,");
    agent.start();
    let (statuses, took) = statuses(&mut agent, 3);
    assert!(statuses.iter().all(|status| *status != 200), "{statuses:?}");
    assert!(took < LIMIT, "{took:?}");
    assert!(agent.log().contains("were cut"), "{}", agent.log());
}

#[test]
fn a_worker_that_ignores_the_stop_does_not_keep_the_agent() {
    let mut agent = Agent::new();
    let script = "import signal, socket, time\n\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        listener = socket.socket(fileno=0)\n\
        while True:\n\
        \x20   stream = listener.accept()[0]\n\
        \x20   stream.recv(9999); time.sleep(2.0)\n\
        \x20   stream.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'); stream.close()\n";
    let script = agent.scratch().write("worker.py", script);
    agent.configure(
        "web",
        &format!(
            "{{web: {{routes: [{{match: '/slow/', handler: 'proxy', proxy: {{program: ['/usr/bin/python3', '{}']}}}}]}}}}",
            script.display()
        ),
    );
    agent.launch();
    eventually("it listens", LIMIT, || std::net::TcpStream::connect(agent.address()).ok());
    agent.client().get("/slow/").expect("the worker answers");
    let (statuses, took) = statuses(&mut agent, 1);
    assert_eq!(statuses, [200]);
    assert!(took < LIMIT, "{took:?}");
    assert!(!agent.log().contains("cut off"), "{}", agent.log());
}

#[test]
fn a_download_goes_on_for_as_long_as_there_is_time_and_idle_connections_end_at_once() {
    let mut agent = agent(Duration::ZERO, "");
    agent.start();
    fs::write(agent.scratch().path().join("www/large"), vec![7; 30 << 20]).expect("write a file");
    let mut idle: Vec<_> = (0..20).map(|_| agent.client()).collect();
    idle.iter_mut().for_each(|client| assert!(client.get("/").is_ok()));
    let (_, took) = agent.stop();
    assert!(took < Duration::from_secs(1), "{took:?}");
    idle.iter_mut().for_each(|client| assert!(client.rest().is_ok_and(|rest| rest.is_empty())));

    agent.start();
    let mut stream = std::net::TcpStream::connect(agent.address()).expect("connect");
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("ask");
    let reader = thread::spawn(move || {
        let (mut all, mut buffer) = (0, vec![0; 128 << 10]);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            all += read;
            thread::sleep(Duration::from_millis(5));
        }
        all
    });
    thread::sleep(Duration::from_millis(200));
    let (_, took) = agent.stop();
    assert!(reader.join().expect("the reader") >= 30 << 20, "{took:?}: {}", agent.log());
    assert!(took < LIMIT, "{took:?}");
}
