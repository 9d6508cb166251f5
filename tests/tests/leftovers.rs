//! What an agent that was killed leaves behind, and the next start removes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ioto_tests::{Agent, eventually};

const LIMIT: Duration = Duration::from_secs(10);

fn hidden(directory: &Path) -> usize {
    let names = fs::read_dir(directory).expect("read a directory").flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".upload-")).count()
}

#[test]
fn files_that_were_half_received_are_gone_after_the_next_start_and_no_others() {
    let mut agent = Agent::new();
    let site = agent.scratch().path().join("www");
    let tmp = agent.scratch().path().join("state/tmp");
    agent.configure("put", "{web: {routes: [{match: '/in/', methods: ['GET', 'PUT']}, {match: ''}]}}");
    agent.scratch().write("www/in/deep/kept", "kept");
    agent.scratch().write("www/in/deep/.upload-mine", "kept");
    agent.scratch().write("state/tmp/.upload-0123456789abcdef", "half");
    agent.scratch().write("state/tmp/upload-0123456789abcdef", "kept");
    agent.start();
    let mut halves: Vec<_> = (0..3).map(|_| agent.client()).collect();
    for (number, client) in halves.iter_mut().enumerate() {
        let head = format!("PUT /in/deep/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf");
        client.send(head.as_bytes()).expect("send half a file");
    }
    let directory = site.join("in/deep");
    eventually("they are being received", LIMIT, || (hidden(&directory) == 4).then_some(()));
    agent.kill();
    assert_eq!(hidden(&directory), 4);

    agent.start();
    eventually("the halves are gone", LIMIT, || (hidden(&directory) == 1).then_some(()));
    eventually("so is that of a form", LIMIT, || (hidden(&tmp) == 0).then_some(()));
    assert_eq!(fs::read_dir(&directory).expect("read").count(), 2);
    assert!(tmp.join("upload-0123456789abcdef").exists());
    eventually("it is told", LIMIT, || agent.log().contains("half received").then_some(()));
}

#[test]
fn files_that_are_being_received_are_no_leftovers_of_another_start() {
    let mut agent = Agent::new();
    agent.configure("put", "{web: {routes: [{match: '/in/', methods: ['GET', 'PUT']}, {match: ''}]}}");
    let directory = agent.scratch().path().join("www/in");
    fs::create_dir(&directory).expect("make a directory");
    agent.start();
    let mut client = agent.client();
    client.send(b"PUT /in/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf").expect("send");
    eventually("it is being received", LIMIT, || (hidden(&directory) == 1).then_some(()));
    // Another agent of the same site.
    let mut other = Agent::new();
    other.variable("IOTO_DIRECTORIES_SITE", &directory.parent().expect("a site").display().to_string());
    other.configure("put", "{web: {routes: [{match: '/in/', methods: ['GET', 'PUT']}, {match: ''}]}}");
    fs::write(directory.join(".upload-0123456789abcdef"), "half").expect("write");
    other.start();
    eventually("the leftover is gone", LIMIT, || (hidden(&directory) == 1).then_some(()));
    client.send(b"+all").expect("send the rest");
    assert_eq!(client.response("PUT").expect("an answer").status, 201);
    assert_eq!(fs::read(directory.join("x")).expect("read"), b"half+all");
}

#[test]
fn the_directories_of_workers_are_gone_after_the_next_start() {
    let mut agent = Agent::new();
    let temporary = agent.scratch().path().join("tmp");
    fs::create_dir(&temporary).expect("make a directory");
    agent.variable("TMPDIR", &temporary.display().to_string());
    let script = agent.scratch().write(
        "worker.py",
        "import socket, sys\nprint('hello of the worker', flush=True)\nlistener = socket.socket(fileno=0)\nwhile True:\n\
         \x20   s = listener.accept()[0]; s.recv(9999)\n\
         \x20   s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n'); s.close()\n",
    );
    let program = format!("{{program: ['/usr/bin/python3', '{}']}}", script.display());
    agent.configure(
        "web",
        &format!("{{web: {{routes: [{{match: '/w/', handler: 'proxy', proxy: {program}}}, {{match: ''}}]}}}}"),
    );
    agent.start();
    assert_eq!(agent.client().get("/w/").expect("an answer").status, 200);
    assert!(agent.log().contains("hello of the worker"), "{}", agent.log());
    let count = || fs::read_dir(&temporary).expect("read").count();
    assert_eq!(count(), 1);
    agent.kill();
    assert_eq!(count(), 1);
    agent.start();
    eventually("it is gone", LIMIT, || (count() == 0).then_some(()));
    assert_eq!(agent.client().get("/w/").expect("an answer").status, 200);
    agent.stop();
    assert_eq!(count(), 0);
}
