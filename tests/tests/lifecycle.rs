//! The agent among its services, the service manager and the people who send it signals.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Client, Signal, eventually, free_port};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn the_service_manager_hears_of_ready_of_life_and_of_stopping() {
    let mut agent = Agent::new();
    let path = agent.scratch().path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bind the manager's socket");
    manager.set_read_timeout(Some(LIMIT)).expect("set a timeout");
    let next = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("a message of the agent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let until = |wanted: &str| loop {
        let message = next();
        if message.starts_with(wanted) {
            return message;
        }
    };

    agent.variable("NOTIFY_SOCKET", &path.display().to_string()).variable("WATCHDOG_USEC", "200000");
    agent.start();
    let ready = next();
    assert!(ready.starts_with("READY=1\nSTATUS=") && ready.contains("3 services running"), "{ready}");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    agent.signal(Signal::Hup);
    until("RELOADING=1\nMONOTONIC_USEC=");
    assert_eq!(until("READY=1"), ready);
    agent.stop();
    until("STOPPING=1");
}

#[test]
fn a_failed_service_is_started_again_while_the_others_run_on() {
    let mut agent = Agent::new();
    let authority = agent.scratch().path().join("authority.pem");
    agent.scratch().write("authority.pem", "no certificate yet\n");
    let settings = format!(
        "{{services: {{mqtt: true}}, mqtt: {{endpoint: 'mqtts://127.0.0.1:{}', authority: '{}'}}}}",
        free_port(),
        authority.display()
    );
    agent.configure("mqtt", &settings);
    agent.start();
    let mut client = agent.client();
    let mut mqtt = || client.get("/api/status").expect("ask for the status").json()["services"]["mqtt"].clone();
    let failed = eventually("the service has failed", LIMIT, || Some(mqtt()).filter(|mqtt| mqtt["state"] == "failed"));
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("authority.pem")), "{failed}");

    make_certificate(agent.scratch().path(), "authority", "authority");
    eventually("the service is up", LIMIT, || (mqtt()["state"] == "running").then_some(()));
    assert!(mqtt()["restarts"].as_u64() >= Some(1));
}

#[test]
fn a_new_certificate_and_log_level_are_taken_over_without_a_pause() {
    let mut agent = Agent::new();
    let (port, directory) = (free_port(), agent.scratch().path().to_owned());
    make_certificate(&directory, "web", "first.example");
    let settings = |level: &str| {
        format!(
            "{{web: {{listen: ['http://{}', 'https://127.0.0.1:{port}']}}, log: {{level: '{level}'}}, \
             tls: {{certificate: '{d}/web.pem', key: '{d}/web.key'}}}}",
            agent.address(),
            d = directory.display()
        )
    };
    let (quiet, loud) = (settings("info"), settings("debug"));
    agent.configure("tls", &quiet);
    agent.start();
    assert!(subject(port).contains("first.example"));
    let mut connected_before = agent.client();
    connected_before.get("/").expect("a page");

    make_certificate(&directory, "web", "second.example");
    agent.configure("tls", &loud);
    agent.signal(Signal::Hup);
    eventually("the new certificate is served", LIMIT, || subject(port).contains("second.example").then_some(()));
    connected_before.get("/").expect("a page on the connection of before");
    assert!(agent.log().contains("were taken over"), "{}", agent.log());

    agent.configure("tls", "{nonsense: true}");
    agent.signal(Signal::Hup);
    eventually("the wrong configuration is refused", LIMIT, || {
        agent.log().contains("nothing was taken over").then_some(())
    });
    assert!(!agent.log().contains("\\n"), "{}", agent.log());

    agent.configure("tls", &loud);
    agent.scratch().write("web.pem", "no certificate\n");
    agent.signal(Signal::Hup);
    eventually("the wrong certificate is refused", LIMIT, || {
        agent.log().contains("not all certificates").then_some(())
    });
    assert_eq!(
        agent.log().matches("certificates, signatures and log levels were taken over").count(),
        1,
        "{}",
        agent.log()
    );
    assert!(subject(port).contains("second.example"));
}

#[test]
fn a_database_that_waits_for_its_file_stops_nobody_else() {
    let mut agent = Agent::new();
    agent.start();
    agent.stop();
    let lock = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); \
                print(flush=True); sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", lock])
        .arg(agent.scratch().path().join("state/db/device.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run python3");
    let held = holder.stdout.as_mut().map(|stdout| stdout.read(&mut [0]));
    assert!(matches!(held, Some(Ok(1))), "the file is locked");

    agent.start();
    let slowest = (0..80).map(|_| {
        let began = Instant::now();
        agent.client().get("/").expect("a page");
        std::thread::sleep(Duration::from_millis(100));
        began.elapsed()
    });
    let slowest = slowest.max().unwrap_or_default();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let (status, took) = agent.stop();
    assert!(status.success() && took < Duration::from_secs(3), "{status} after {took:?}");
    holder.kill().expect("end the holder");
    holder.wait().expect("wait for the holder");
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_does_not_end_the_agent() {
    let mut agent = Agent::new();
    let settings = format!("{{web: {{listen: ['http://{}', 'https://127.0.0.1:0']}}}}", agent.address());
    agent.configure("tls", &settings);
    // Reading it takes until somebody writes.
    let pipe = agent.scratch().write("state/certs/web.crt", "");
    let script = format!("rm {0} && mkfifo {0}", pipe.display());
    assert!(Command::new("sh").args(["-c", &script]).status().expect("run sh").success());
    agent.launch();
    eventually("the agent starts", LIMIT, || agent.log().contains("on device").then_some(()));
    agent.signal(Signal::Hup);
    std::thread::sleep(Duration::from_millis(300));
    let write = format!("echo junk >{}", pipe.display());
    Command::new("timeout").args(["5", "sh", "-c", &write]).status().expect("run timeout");
    eventually("the agent is up", LIMIT, || agent.log().contains("services running").then_some(()));
    let (status, _) = agent.stop();
    assert!(status.success(), "{status}");
}

#[test]
fn the_agent_ends_by_itself_when_it_was_told_to() {
    let mut agent = Agent::new();
    agent.argument("--exit-after").argument("0.3");
    let status = agent.run_to_end(LIMIT);
    assert!(status.success(), "{status}");
}

/// A key and a self-signed certificate, `NAME.key` and `NAME.pem`.
fn make_certificate(directory: &Path, name: &str, common_name: &str) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args([
            "-subj",
            &format!("/CN={common_name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status()
        .expect("run openssl: install the package openssl");
    assert!(status.success(), "{status}");
}

/// The subject of the certificate that is served.
fn subject(port: u16) -> String {
    let script =
        format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -subject");
    let output = Command::new("sh").args(["-c", &script]).output().expect("run openssl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_address_that_is_not_there_yet_keeps_no_service_from_running() {
    let mut agent = Agent::new();
    // RFC 5737: nobody has this address.
    agent.configure("web", "{web: {listen: ['http://192.0.2.7:8080']}}");
    agent.launch();
    let socket = agent.scratch().path().join("state/run/api.sock");
    let status = eventually("the agent is up", LIMIT, || {
        agent.log().contains("failed: web").then(|| Client::unix(&socket).ok()?.get("/api/status").ok()).flatten()
    });
    let web = status.json()["services"]["web"].clone();
    assert_eq!(web["state"], "failed", "{web}");
    assert!(web["error"].as_str().is_some_and(|error| error.contains("192.0.2.7:8080")), "{web}");
    let (status, _) = agent.stop();
    assert!(status.success(), "{status}");
}
