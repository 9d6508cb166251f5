//! The servers: their configurations, their start and their end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use ioto_tests::{Client, Scratch, free_port};

use crate::cases::{LARGE, SMALL};
use crate::{Outcome, interrupt, usage};

/// How long a server may take to answer.
const START: Duration = Duration::from_secs(10);
/// How long it may take to end.
const END: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `ioto run`, profile release.
    Ours,
    /// Our server with actions, `agent/benches/web/actions.rs`.
    Actions,
    /// The same with `web.threads` 1.
    OneThread,
    /// The same with `web.threads` 2.
    TwoThreads,
    Lighttpd,
    Nginx,
}

impl Subject {
    /// Its column of the report.
    pub fn column(self) -> &'static str {
        match self {
            Self::Ours | Self::Actions | Self::TwoThreads => "ours",
            Self::OneThread => "1 thread",
            Self::Lighttpd => "lighttpd",
            Self::Nginx => "nginx",
        }
    }

    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Lighttpd | Self::Nginx)
    }
}

/// What differs from case to case in the configuration of our server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// Nothing is set.
    Default,
    /// `limits.requests: 'unlimited'`.
    Requests,
    /// That and `limits.connections: 1100`, and files enough for them.
    Connections,
}

/// Where the pieces are that all servers share.
pub struct Site<'a> {
    scratch: &'a Scratch,
    programs: PathBuf,
}

impl<'a> Site<'a> {
    /// Writes the files that are served, and the certificate.
    pub fn new(scratch: &'a Scratch) -> Outcome<Self> {
        scratch.write(&format!("www/{SMALL}"), &"<p>0123456789abc".repeat(64));
        scratch.write(&format!("www/{LARGE}"), &"0123456789abcdef".repeat(6400));
        fs::create_dir_all(scratch.path().join("share")).expect("make a directory");
        let (key, certificate) = (scratch.path().join("key.pem"), scratch.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start openssl: {error}"))?;
        if !made.status.success() {
            return Err(format!("openssl made no certificate: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let own = env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
        Ok(Self { scratch, programs: own.parent().unwrap_or("/".as_ref()).to_owned() })
    }

    /// Starts a server on these cores and waits until it answers.
    pub fn start(&self, subject: Subject, limits: Limits, cores: &str) -> Outcome<Server> {
        let (plain, tls) = (free_port(), free_port());
        let name = format!("{subject:?}-{plain}").to_lowercase();
        let directory = self.scratch.path().join(&name);
        let path = directory.to_string_lossy().into_owned();
        let mut command;
        match subject {
            Subject::Lighttpd => {
                let file = self.scratch.write(&format!("{name}/lighttpd.conf"), &lighttpd(self.scratch.path(), plain));
                command = server(cores, limits, "lighttpd");
                command.arg("-D").arg("-f").arg(file);
            }
            Subject::Nginx => {
                let text = nginx(self.scratch.path(), &path, plain, tls);
                let file = self.scratch.write(&format!("{name}/nginx.conf"), &text);
                command = server(cores, limits, "nginx");
                command.args(["-p", &path, "-e", "stderr", "-c"]).arg(file);
            }
            ours => {
                let threads = match ours {
                    Subject::OneThread => Some(1),
                    Subject::TwoThreads => Some(2),
                    _ => None,
                };
                // The server with actions has no certificate.
                let tls = (ours == Subject::Ours).then_some(tls);
                let text = ioto(self.scratch.path(), &path, (plain, tls), limits, threads);
                self.scratch.write(&format!("{name}/ioto.json5"), &text);
                if ours == Subject::Ours {
                    command = server(cores, limits, self.programs.join("ioto"));
                    command.args(["run", "--state", &format!("{path}/state"), "--config", &path]);
                } else {
                    command = server(cores, limits, self.programs.join("examples/bench_actions"));
                    command.arg(&directory);
                }
            }
        }
        let log = directory.join("log");
        let output = || -> Stdio { File::options().create(true).append(true).open(&log).expect("open a log").into() };
        command
            .env_clear()
            .env("PATH", path_with_sbin())
            .env("IOTO_DIRECTORIES_SHARE", self.scratch.path().join("share"))
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output());
        let child =
            interrupt::started(|| command.spawn()).map_err(|error| format!("cannot start {subject:?}: {error}"))?;
        let mut server = Server { subject, child, processes: Vec::new(), plain, tls };
        let probe =
            if matches!(subject, Subject::Ours | Subject::Lighttpd | Subject::Nginx) { SMALL } else { "test/bench" };
        server.wait(probe, &log)?;
        server.processes = usage::family(server.child.id());
        Ok(server)
    }
}

/// A server that answers. It ends with this value.
pub struct Server {
    pub subject: Subject,
    child: Child,
    /// Its processes.
    pub processes: Vec<u32>,
    plain: u16,
    tls: u16,
}

impl Server {
    pub fn address(&self, tls: bool) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], if tls { self.tls } else { self.plain }))
    }

    pub fn url(&self, path: &str, tls: bool) -> String {
        format!("{}://{}/{path}", if tls { "https" } else { "http" }, self.address(tls))
    }

    /// Waits for its first answer.
    fn wait(&mut self, path: &str, log: &Path) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let answer = Client::connect(self.address(false)).and_then(|mut client| client.get(&format!("/{path}")));
            match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => return Err(format!("{:?} answers {} to GET /{path}", self.subject, answer.status)),
                Err(_) => {}
            }
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || began.elapsed() > START {
                let log = fs::read(log).unwrap_or_default();
                let what = if has_ended { "ended at its start" } else { "does not answer" };
                return Err(format!("{:?} {what}: {}", self.subject, String::from_utf8_lossy(&log).trim()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        interrupt::terminate(self.child.id());
        let began = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if began.elapsed() > END {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
        interrupt::ended(self.child.id());
    }
}

/// A command on these cores; it ends with this program, however that ends.
pub fn pinned(cores: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", cores]).arg(program);
    command
}

/// With the limit of open files that systemd gives a service, unless more connections are to be kept.
fn server(cores: &str, limits: Limits, program: impl AsRef<OsStr>) -> Command {
    let mut command = pinned(cores, "prlimit");
    command.arg(if limits == Limits::Connections { "--nofile=4096:" } else { "--nofile=1024:" }).arg(program);
    command
}

/// Debian keeps servers where users do not look.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()))
}

fn ioto(
    scratch: &Path,
    directory: &str,
    (plain, tls): (u16, Option<u16>),
    limits: Limits,
    threads: Option<u32>,
) -> String {
    let scratch = scratch.display();
    let limits = match limits {
        Limits::Default => "",
        Limits::Requests => "limits: {requests: 'unlimited'},",
        Limits::Connections => "limits: {requests: 'unlimited', connections: 1100},",
    };
    let threads = threads.map_or_else(String::new, |threads| format!("threads: {threads},"));
    let tls = tls.map_or_else(String::new, |tls| format!(", 'https://127.0.0.1:{tls}'"));
    format!(
        "{{
    directories: {{run: '{directory}/run'}},
    web: {{listen: ['http://127.0.0.1:{plain}'{tls}], documents: '{scratch}/www', {limits} {threads}}},
    tls: {{certificate: '{scratch}/certificate.pem', key: '{scratch}/key.pem'}},
}}
"
    )
}

fn lighttpd(scratch: &Path, plain: u16) -> String {
    let scratch = scratch.display();
    format!(
        r#"server.document-root = "{scratch}/www"
server.bind = "127.0.0.1"
server.port = {plain}
server.event-handler = "linux-sysepoll"
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 60
server.max-fds = 4096
server.max-connections = 2000
server.stat-cache-engine = "simple"
mimetype.assign = (".html" => "text/html", ".bin" => "application/octet-stream")
"#
    )
}

fn nginx(scratch: &Path, directory: &str, plain: u16, tls: u16) -> String {
    let scratch = scratch.display();
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 4096;
pid {directory}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    types {{ text/html html; application/octet-stream bin; }}
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {scratch}/certificate.pem;
        ssl_certificate_key {scratch}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root {scratch}/www;
    }}
}}
"
    )
}
