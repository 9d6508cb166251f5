//! `web.routes[].proxy` in the files of the running program.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use web_support::{Dir, curl};

fn ioto(dir: &Path, words: &[&str]) -> Command {
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::create_dir_all(dir.join("share")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ioto"));
    command.env_clear().current_dir(dir).stdin(Stdio::null()).env("PATH", "/usr/bin:/bin");
    // As on a device, but who runs the tests as root need not have its user.
    command.env("IOTO_SANDBOX_USER", "root");
    command.args(words).env("IOTO_DIRECTORIES_SHARE", "share").args(["--config", "etc", "--state", "state"]);
    command
}

#[test]
fn what_cannot_be_a_program_behind_a_route_is_refused_with_the_reason() {
    let dir = Dir::new();
    fs::create_dir_all(dir.0.join("etc")).unwrap();
    for (routes, why) in [
        ("{handler: 'proxy'}", "web.routes[0].handler: 'proxy' needs the key `proxy`"),
        ("{proxy: 'unix:/x'}", "web.routes[0].proxy: has no meaning here, expected handler: 'proxy'"),
        ("{handler: 'proxy', proxy: 'http://10.0.0.1:80'}", "web.routes[0].proxy: is not on this device"),
        ("{handler: 'proxy', proxy: 'http://example.com'}", "web.routes[0].proxy: names a host"),
        ("{handler: 'proxy', proxy: 5}", "web.routes[0].proxy: expected a text, found the number 5"),
        ("{handler: 'proxy', proxy: 'unix:@x/app'}", "`@x/app` begins with an unknown token"),
        ("{handler: 'proxy', proxy: {program: []}}", "expected {program: ['/usr/bin/app', 'argument']}"),
        ("{handler: 'proxy', proxy: {program: ['app']}}", "expected {program: ['/usr/bin/app', 'argument']}"),
        ("{handler: 'proxy', proxy: {run: ['/app']}}", "expected {program: ['/usr/bin/app', 'argument']}"),
        ("{handler: 'proxy', proxy: {program: ['/app', 5]}}", "expected {program: ['/usr/bin/app', 'argument']}"),
    ] {
        fs::write(dir.0.join("etc/web.json5"), format!("{{routes: [{routes}]}}")).unwrap();
        let output = ioto(&dir.0, &["config", "check"]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && errors.contains(why), "{routes}: {errors}");
    }
    fs::write(dir.0.join("etc/web.json5"), "{proxy: {connections: 0}}").unwrap();
    let output = ioto(&dir.0, &["config", "check"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("web.proxy.connections: the number 0 is out of range"));
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const APP: &str = r"
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/app/die': import os; os._exit(3)
        body = (self.path + ' ' + self.headers['X-Forwarded-Host']).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self): return 'client'
    def log_message(self, *_): pass
class Server(http.server.HTTPServer):
    def server_bind(self): self.socket = socket.socket(fileno=0); self.server_name, self.server_port = 'app', 0
    def server_activate(self): pass
    def get_request(self): return self.socket.accept()[0], ('client', 0)
Server(('', 0), Handler).serve_forever()
";

#[test]
fn the_agent_starts_a_python_program_and_starts_it_again() {
    let dir = Dir::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::create_dir_all(dir.0.join("etc")).unwrap();
    fs::write(dir.0.join("app.py"), APP).unwrap();
    let config = format!(
        "{{listen: ['http://127.0.0.1:{port}'], proxy: {{connections: 4, idle: 0}}, routes: [\n\
         {{match: '/app/', handler: 'proxy', proxy: {{program: ['/usr/bin/python3', '{}']}}}},\n\
         {{match: '/gone/', handler: 'proxy', proxy: 'unix:run/app.sock:/base', methods: ['GET']}}]}}",
        dir.0.join("app.py").display()
    );
    fs::write(dir.0.join("etc/web.json5"), config).unwrap();
    let shown = ioto(&dir.0, &["config", "show"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let socket = format!("unix:{}:/base", dir.0.join("etc/run/app.sock").display());
    assert!(shown.contains(&socket) && shown.contains("program /usr/bin/python3"), "{shown}");

    let log = fs::File::create(dir.0.join("log")).unwrap();
    let mut command = ioto(&dir.0, &["run"]);
    let agent = Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "{}", fs::read_to_string(dir.0.join("log")).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let base = format!("http://127.0.0.1:{port}");
    let status = |path: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("{base}{path}")]);
    for _ in 0..2 {
        assert_eq!(curl(&[&format!("{base}/app/x?y")]), format!("/app/x?y 127.0.0.1:{port}"));
        assert_eq!(status("/app/die"), "500");
    }
    assert_eq!(status("/gone/x"), "502");
    let log = fs::read_to_string(dir.0.join("log")).unwrap();
    assert!(log.contains("exited with status 3") && log.contains("/gone/x"), "{log}");
    drop(agent);
}
