//! The sandbox around the real program: started as root it becomes another user, and what it and its programs may do is
//! what the kernel answers them, not what was meant. As another user the tests that need root say so and pass.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ioto_tests::{Agent, Client, Signal, eventually, readings};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A user that every system has.
const USER: &str = "daemon";

/// Tries what the paths name, and answers what came of it: the number of the error, 0 for none.
const WORKER: &str = r#"
import ctypes, errno, json, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)

def number(call):
    ctypes.set_errno(0)
    return 0 if call() >= 0 else ctypes.get_errno()

def failure(action):
    try:
        action()
        return 0
    except OSError as error:
        return error.errno

def write(path):
    return failure(lambda: open(path, 'w').write('x'))

def read(path):
    return failure(lambda: open(path).read(1))

def end_of(call):
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def look(path):
    kind, _, argument = path.partition('=')
    return {
        'write': lambda: write(argument),
        'read': lambda: read(argument),
        'unshare': lambda: number(lambda: libc.unshare(0x10000000)),
        'packet': lambda: failure(lambda: socket.socket(17, 3, 0)),
        'inet': lambda: failure(lambda: socket.socket()),
        'unknown': lambda: number(lambda: libc.syscall(100000)),
        'clone3': lambda: number(lambda: libc.syscall(435, 0, 0)),
        'setuid': lambda: number(lambda: libc.setuid(0)),
        'signal': lambda: failure(lambda: os.kill(int(argument), 0)),
        'ptrace': lambda: end_of(lambda: libc.ptrace(0, 0, 0, 0)),
        'mount': lambda: end_of(lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)),
        'status': lambda: dict(line.rstrip().split(':\t', 1) for line in open('/proc/self/status') if ':\t' in line),
    }[kind]()

listener = socket.socket(fileno=0)
while True:
    stream = listener.accept()[0]
    path = stream.recv(9999).split(b' ')[1].decode().split('?', 1)[1]
    body = json.dumps(look(path)).encode()
    head = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n'
    stream.sendall((head % len(body)).encode() + body)
    stream.close()
"#;

/// An agent with a worker, in the sandbox of a device.
fn agent(sandbox: &str) -> Agent {
    let mut agent = Agent::new();
    let scratch = agent.scratch().path().to_owned();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o755)).expect("let the user through");
    let script = agent.scratch().write("app/worker.py", WORKER);
    let program = format!("{{program: ['/usr/bin/python3', '{}']}}", script.display());
    let routes = format!("[{{match: '/w', handler: 'proxy', proxy: {program}}}, {{match: ''}}]");
    agent.configure("web", &format!("{{web: {{threads: 2, routes: {routes}}}, sandbox: {sandbox}}}"));
    agent.schema(readings::SCHEMA);
    // In profile dev the agent has its run directory in its state, and the test a place for each.
    agent.variable("IOTO_SANDBOX_ENABLE", "true");
    agent
}

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    if !root {
        println!("skipped: this test needs root");
    }
    root
}

/// Whether this kernel has Landlock, as the agent found it.
fn has_landlock(status: &Value) -> bool {
    let has = status["sandbox"]["landlock"].as_str().is_some_and(|level| level.starts_with("ABI"));
    if !has {
        println!("skipped in part: no Landlock here: {}", status["sandbox"]["landlock"]);
    }
    has
}

fn ask(agent: &Agent, what: &str) -> Value {
    let response = agent.client().get(&format!("/w?{what}")).expect("an answer");
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    response.json()
}

fn status(agent: &Agent) -> Value {
    let socket = agent.scratch().path().join("state/run/api.sock");
    Client::unix(&socket).and_then(|mut client| client.get("/api/status")).expect("an answer").json()
}

/// The fields of each thread's status.
fn threads(process: u32) -> Vec<Vec<(String, String)>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the threads").flatten();
    let fields = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).expect("its status");
        let split = status.lines().filter_map(|line| line.split_once(':'));
        split.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    tasks.map(fields).collect()
}

fn doctor(agent: &Agent) -> Output {
    let scratch = agent.scratch().path();
    let program = Path::new("/proc").join(agent.id().to_string()).join("exe");
    let mut command = Command::new(fs::read_link(program).expect("the program"));
    command.env_clear().args(["doctor", "--json", "--profile", "dev", "--config"]).arg(scratch.join("config"));
    command.arg("--state").arg(scratch.join("state")).output().expect("run it")
}

const NONE: &str = "0000000000000000";

#[test]
fn root_becomes_a_user_without_rights_in_all_threads() {
    if !is_root() {
        return;
    }
    let mut agent = agent(&format!("{{user: '{USER}'}}"));
    agent.start();
    assert_eq!(ask(&agent, "inet"), 0);
    let all = threads(agent.id());
    assert!(all.len() >= 4, "{} threads", all.len());
    for thread in &all {
        let field = |wanted: &str| {
            let found = thread.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            found.unwrap_or_else(|| panic!("no {wanted}"))
        };
        let name = field("Name");
        assert!(field("Uid").split_whitespace().all(|uid| uid == "1"), "{name}: uid {}", field("Uid"));
        assert!(field("Gid").split_whitespace().all(|gid| gid == "1"), "{name}: gid {}", field("Gid"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), NONE, "{name}: {set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp"), field("Umask")), ("1", "2", "0077"), "{name}");
        assert!(!field("Groups").split_whitespace().any(|group| group == "0"), "{name}: {}", field("Groups"));
    }
    // What it starts has no more.
    let worker = ask(&agent, "status");
    assert_eq!(
        (&worker["CapBnd"], &worker["NoNewPrivs"], &worker["Seccomp"]),
        (&json!(NONE), &json!("1"), &json!("2"))
    );
    assert_eq!(ask(&agent, "setuid"), 1);

    let state = fs::metadata(agent.scratch().path().join("state")).expect("the state directory");
    assert_eq!((state.uid(), state.mode() & 0o777), (1, 0o750));
    assert!(agent.log().contains("sandbox: uid 1, no capabilities, no_new_privs"), "{}", agent.log());
    let output = doctor(&agent);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success() && told["ok"] == true, "{told:#}");
    for line in ["runs as user 1", "no thread has a capability", "system calls are filtered"] {
        let rows = told["checks"].as_array().expect("a list");
        assert!(rows.iter().any(|row| row["text"] == line && row["level"] == "ok"), "{line}: {told:#}");
    }
}

#[test]
fn files_elsewhere_can_not_be_written_and_those_of_the_state_can() {
    // As whoever runs the test: the rules are Landlock's, not those of the owner of a file.
    let mut agent = agent("{user: 'root', group: 'root'}");
    // Programs have the directory of temporary files; the test's own is beneath the system's.
    let temporary = agent.scratch().path().join("tmp");
    fs::create_dir(&temporary).expect("make a directory");
    agent.variable("TMPDIR", &temporary.display().to_string());
    agent.start();
    let path = |name: &str| agent.scratch().path().join(name).display().to_string();
    assert_eq!(ask(&agent, &format!("write={}", path("state/new"))), 0);
    if !has_landlock(&status(&agent)) {
        return;
    }
    for place in [path("config/x"), path("www/x"), path("app/x"), "/etc/ioto-x".into(), "/var/lib/ioto-x".into()] {
        assert_eq!(ask(&agent, &format!("write={place}")), 13, "{place}");
        assert!(!Path::new(&place).exists(), "{place}");
    }
    assert_eq!(ask(&agent, "read=/etc/hosts"), 0);
    assert_eq!(ask(&agent, "read=/root/.profile"), 13);
    // Signals reach what the agent started, and not this test.
    assert_eq!(ask(&agent, &format!("signal={}", std::process::id())), 1);
}

#[test]
fn forbidden_system_calls_fail_and_deadly_ones_end_the_process() {
    let mut agent = agent("{user: 'root', group: 'root'}");
    agent.start();
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    const SIGSYS: i32 = 31;
    let rows = [
        ("unshare", EPERM),
        ("packet", EPERM),
        ("inet", 0),
        ("unknown", ENOSYS),
        ("clone3", ENOSYS),
        ("ptrace", -SIGSYS),
        ("mount", -SIGSYS),
    ];
    for (what, expected) in rows {
        assert_eq!(ask(&agent, what), expected, "{what}");
    }
}

#[test]
fn ports_below_1024_are_bound_and_the_agent_works_on_in_its_sandbox() {
    if !is_root() {
        return;
    }
    let mut agent = agent(&format!("{{user: '{USER}'}}"));
    // Two threads listen at each; TLS by the certificate that the agent makes itself.
    let own = format!("http://{}", agent.address());
    for listen in [&own, "http://127.0.0.1:81", "https://127.0.0.1:444"] {
        agent.argument("--listen").argument(listen);
    }
    agent.start();
    let low = "127.0.0.1:81".parse().expect("an address");
    for _ in 0..20 {
        let response = Client::connect(low).and_then(|mut client| client.get("/")).expect("an answer");
        assert_ne!(response.status, 500);
    }
    std::net::TcpStream::connect("127.0.0.1:444").expect("connect to the TLS port");
    let certificate = agent.scratch().path().join("state/certs/web.crt");
    assert_eq!(fs::metadata(certificate).expect("its certificate").uid(), 1);

    let socket = agent.scratch().path().join("state/run/api.sock");
    let mut api = Client::unix(&socket).expect("connect to the API");
    assert_eq!(readings::post(&mut api, "a", 1).expect("an answer").status, 201);
    assert_eq!(readings::on_the_device(&mut api).len(), 1);

    agent.signal(Signal::Hup);
    eventually("it is read again", LIMIT, || agent.log().contains("were taken over").then_some(()));
    let (end, took) = agent.stop();
    assert!(end.success() && took < Duration::from_secs(5), "{end}, {took:?}");
    agent.start();
    assert_eq!(Client::connect(low).and_then(|mut client| client.get("/w?inet")).expect("an answer").status, 200);
}

#[test]
fn root_without_a_user_to_become_is_told_what_to_do() {
    if !is_root() {
        return;
    }
    let mut agent = agent("{user: 'no-such-user'}");
    let end = agent.run_to_end(LIMIT);
    let log = agent.log();
    assert_eq!(end.code(), Some(2), "{log}");
    assert!(log.contains("there is no user `no-such-user` to become") && log.contains("sandbox.user"), "{log}");
}

#[test]
fn root_in_profile_prod_without_a_sandbox_is_refused_unless_it_is_said() {
    if !is_root() {
        return;
    }
    let mut agent = agent("{}");
    agent.variable("IOTO_SANDBOX_ENABLE", "false").argument("--profile").argument("prod");
    let run = agent.scratch().path().join("run").display().to_string();
    agent.variable("IOTO_DIRECTORIES_RUN", &run).variable("IOTO_WEB_API_OPEN", "false");
    assert_eq!(agent.run_to_end(LIMIT).code(), Some(2), "{}", agent.log());
    assert!(agent.log().contains("started as root in profile prod"), "{}", agent.log());
    agent.variable("IOTO_SANDBOX_USER", "root");
    agent.start();
    assert!(agent.log().contains("the agent runs without its sandbox"), "{}", agent.log());
}
