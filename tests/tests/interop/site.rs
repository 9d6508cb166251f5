//! The server: the example `webtest` with a `web.json5`, pages and a certificate of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use ioto::web::auth::password::{Hash, hash};
use ioto_tests::{Client, Scratch, eventually, free_port, python, repository};
use serde_json::json;

/// How long it may take to get ready.
const START: Duration = Duration::from_secs(20);
/// How long the checks of one client may take; they give up by themselves before.
const LIMIT: Duration = Duration::from_secs(90);

const SETTINGS: &str = "{
    web: {
        listen: ['http://127.0.0.1:PLAIN', 'http://127.0.0.1:OTHER', 'https://127.0.0.1:SECURE', 'unix:../web.sock'],
        documents: DOCUMENTS,
        headers: {
            'Access-Control-Allow-Origin': 'http://127.0.0.1:OTHER',
            'Access-Control-Allow-Credentials': 'true',
            'Access-Control-Allow-Headers': 'Content-Type, X-Custom',
            'Access-Control-Expose-Headers': 'Content-Range',
        },
        auth: {login: '/login', logout: '/logout', roles: {user: ['api']}, users: {USER}},
        webSockets: {ping: '1 sec'},
        redirect: [
            {from: '/old.html', to: '/index.html', status: 301},
            {from: '/moved', to: '/test/put', status: 308},
            {from: '/see', to: '/test/show', status: 303},
            {from: 'http:///tls.html', to: 'https://127.0.0.1:SECURE/index.html', status: 307},
        ],
        routes: [
            {match: '/basic/', role: 'user', authType: 'basic'},
            {match: '/digest/', role: 'user', authType: 'digest'},
            {match: '/digest-action/', trim: '/digest-action', handler: 'action', role: 'user', authType: 'digest'},
            {match: '/md5/', role: 'user', authType: 'digest', algorithm: 'MD5'},
            {match: '/session/', role: 'user', authType: 'session'},
            {match: '/session-action/', trim: '/session-action', handler: 'action', role: 'user', authType: 'session'},
            {match: '/put/', methods: ['GET', 'PUT', 'DELETE']},
            {match: '/app/', compressed: true, cache: {maxAge: '1 hour'}},
            {match: '/test/xsrf', handler: 'action', xsrf: true},
            {match: '/test/put', handler: 'action', stream: true},
            {match: '/stream', handler: 'action', stream: true},
            {match: '/test/', handler: 'action'},
            {match: '/ws', handler: 'action'},
            {match: '/api/', handler: 'action'},
            {match: ''},
        ],
    },
    tls: {certificate: 'web.crt', key: 'web.key'},
    directories: {run: RUN},
    // As on a device, but who runs the tests as root need not have its user.
    sandbox: {user: 'root'},
}";

/// An authority, and what it issues for this host.
const CERTIFICATE: &str = "set -e
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $key -subj /CN=authority -days 3000 -addext keyUsage=keyCertSign -keyout ca.key -out ca.crt
openssl req -new $key -subj /CN=localhost -keyout web.key -out web.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' >extensions
openssl x509 -req -in web.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 300 -extfile extensions -out web.crt";

/// The running server.
pub struct Site {
    scratch: Scratch,
    ports: [u16; 3],
    child: Option<Child>,
}

impl Site {
    /// Starts it with the pages of this test: profile dev, without the fields for careful browsers.
    pub fn new() -> Self {
        let site = Self::prepare();
        let documents = site.scratch.path().join("site");
        site.start("dev", &documents)
    }

    /// Starts it with the page of the device, in profile prod.
    pub fn of_device() -> Self {
        Self::prepare().start("prod", &repository().join("agent/www"))
    }

    fn prepare() -> Self {
        let scratch = Scratch::new();
        for (name, text) in [
            ("index.html", "<!doctype html><title>index</title>\n"),
            ("letters.txt", "abcdefghijklmnopqrstuvwxyz"),
            ("put/kept.txt", "kept"),
            ("sub/index.html", "sub"),
            ("basic/index.html", "inside"),
            ("digest/index.html", "inside"),
            ("md5/index.html", "inside"),
            ("session/index.html", "inside"),
            ("page.html", include_str!("page.html")),
            ("page.js", include_str!("page.js")),
        ] {
            scratch.write(&format!("site/{name}"), text);
        }
        scratch.write("config/none", "");
        let made = Command::new("sh").args(["-c", CERTIFICATE]).current_dir(scratch.path().join("config")).output();
        let made = made.expect("run the shell");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Self { scratch, ports: [free_port(), free_port(), free_port()], child: None }
    }

    fn start(mut self, profile: &str, documents: &Path) -> Self {
        let [plain, other, secure] = self.ports.map(|port| port.to_string());
        let text = SETTINGS
            .replace("PLAIN", &plain)
            .replace("OTHER", &other)
            .replace("SECURE", &secure)
            .replace("RUN", &format!("'{}'", self.scratch.path().join("run").display()))
            .replace("DOCUMENTS", &format!("'{}'", documents.display()))
            .replace("USER", &user("jo", "open sesame"));
        self.scratch.write("config/web.json5", &text);
        let log = File::create(self.scratch.path().join("log")).expect("make the log");
        let mut command = Command::new(program());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("IOTO_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--profile", profile, "--config"])
            .arg(self.scratch.path().join("config"))
            .arg("--state")
            .arg(self.scratch.path().join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log);
        self.child = Some(command.spawn().expect("start webtest"));
        eventually("webtest answers, see its log below", START, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "webtest ended at its start; see its log below");
            Client::connect(([127, 0, 0, 1], self.ports[2]).into()).ok()?;
            Client::connect(([127, 0, 0, 1], self.ports[0]).into()).and_then(|mut client| client.get("/")).ok()
        });
        self
    }

    /// Runs a script beside this one, which tells all checks that fail.
    pub fn run(&self, script: &str) {
        let [plain, other, secure] = self.ports;
        let place = json!({
            "plain": format!("http://127.0.0.1:{plain}"),
            "other": format!("http://127.0.0.1:{other}"),
            "secure": format!("https://127.0.0.1:{secure}"),
            "ca": self.scratch.path().join("config/ca.crt"),
            "certificate": self.scratch.path().join("config/web.crt"),
            "site": self.scratch.path().join("site"),
            "socket": self.scratch.path().join("web.sock"),
            "scratch": self.scratch.path(),
        });
        let said = self.scratch.path().join("said");
        let file = File::create(&said).expect("make a file");
        let mut child = python()
            .arg("-B")
            .arg(repository().join("tests/tests/interop").join(script))
            .arg(place.to_string())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the file"))
            .stderr(file)
            .spawn()
            .expect("start python");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for python") {
                break Some(status);
            }
            if began.elapsed() > LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(said).unwrap_or_default();
        println!("{script}: {said}");
        assert!(status.is_some_and(|status| status.success()), "{script}: {said}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
            eprintln!("--- the log of webtest\n{}---", String::from_utf8_lossy(&log));
        }
    }
}

fn user(name: &str, password: &str) -> String {
    let phc = hash(password).expect("a hash");
    let ha1 = |hash: Hash| hash.stored(&hash.ha1(name, "web", password));
    format!("{name}: {{password: '{phc}', ha1: ['{}', '{}'], role: 'user'}}", ha1(Hash::Sha256), ha1(Hash::Md5))
}

/// `IOTO_WEBTEST`, or the example where cargo put it, beside the directory of the test's own executable.
fn program() -> PathBuf {
    let beside = || {
        let test = env::current_exe().expect("the test's own path");
        test.ancestors().skip(1).take(2).map(|path| path.join("examples/webtest")).find(|program| program.exists())
    };
    let named = env::var_os("IOTO_WEBTEST").map(PathBuf::from);
    named.or_else(beside).expect(
        "no program `webtest` beside the tests: run `cargo build -p ioto --example webtest` first, or set IOTO_WEBTEST",
    )
}
