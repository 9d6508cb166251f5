//! TLS of the running agent, configured as a device is: names, clients' certificates, reloads. openssl and curl ask.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ioto_tests::{Agent, Signal, eventually, free_port};

const LIMIT: Duration = Duration::from_secs(10);

/// Runs a script of the shell there, and gives what it said.
fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().expect("run the shell");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// NAME.key and NAME.crt, issued by the authority ISSUER.crt, or by itself.
fn make(directory: &Path, name: &str, issuer: &str, extensions: &str, days: u16) {
    let by = if issuer.is_empty() {
        "-signkey $name.key".replace("$name", name)
    } else {
        format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial")
    };
    let said = sh(
        directory,
        &format!(
            "set -e; printf '{extensions}' > ext; \
             openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr 2>/dev/null; \
             openssl x509 -req -in {name}.csr -days {days} -extfile ext {by} -out {name}.crt 2>/dev/null; echo made"
        ),
    );
    assert_eq!(said, "made\n");
}

struct Site {
    agent: Agent,
    port: u16,
}

impl Site {
    fn new(tls: &str, web: &str) -> Self {
        let agent = Agent::new();
        let (directory, port) = (agent.scratch().path().to_owned(), free_port());
        make(&directory, "ca", "", "basicConstraints=critical,CA:TRUE", 3000);
        for (name, names) in [("first", "first.example"), ("second", "*.second.example")] {
            make(&directory, name, "ca", &format!("subjectAltName=DNS:{names},DNS:localhost"), 300);
        }
        let site = Self { agent, port };
        site.configure(tls, web);
        site
    }

    fn configure(&self, tls: &str, web: &str) {
        let listen = format!("['http://{}', 'https://127.0.0.1:{}']", self.agent.address(), self.port);
        let tls = tls.replace("@/", &format!("{}/", self.directory().display()));
        self.agent.configure("tls", &format!("{{web: {{listen: {listen}, {web}}}, tls: {{{tls}}}}}"));
    }

    fn directory(&self) -> &Path {
        self.agent.scratch().path()
    }

    fn subject(&self, name: &str) -> String {
        let port = self.port;
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{port} -servername {name} </dev/null 2>/dev/null \
             | openssl x509 -noout -subject"
        );
        sh(self.directory(), &script).trim().replace("subject=CN = ", "")
    }

    fn curl(&self, arguments: &str) -> String {
        sh(
            self.directory(),
            &format!(
                "curl -sS --max-time 10 --cacert ca.crt -o /dev/null -w '%{{http_code}}' {arguments} https://localhost:{}/",
                self.port
            ),
        )
    }

    /// Reloads, and waits for a new line of the log.
    fn reload(&self, line: &str) {
        let count = |log: String| log.matches(line).count();
        let before = count(self.agent.log());
        self.agent.signal(Signal::Hup);
        eventually(line, LIMIT, || (count(self.agent.log()) > before).then_some(()));
    }
}

const TWO: &str = "certificates: [{certificate: '@/first.crt', key: '@/first.key'}, \
                   {certificate: '@/second.crt', key: '@/second.key'}]";

#[test]
fn certificates_are_chosen_by_name_and_half_written_ones_are_not_taken_over() {
    let mut site = Site::new(TWO, "");
    site.agent.start();
    assert_eq!((site.subject("a.second.example"), site.subject("x.example")), ("second".into(), "first".into()));
    assert_eq!(site.curl("--resolve localhost:1:127.0.0.1"), "200");

    // The key is there before its certificate: both of before stay, also the one that is not concerned.
    let kept = site.directory().join("kept");
    std::fs::copy(site.directory().join("second.crt"), &kept).expect("copy");
    make(site.directory(), "other", "ca", "subjectAltName=DNS:*.second.example", 300);
    std::fs::copy(site.directory().join("other.key"), site.directory().join("second.key")).expect("copy");
    site.reload("not all certificates");
    let log = site.agent.log();
    assert!(log.contains("second.crt cannot be used with its key: they do not belong together"), "{log}");
    assert_eq!((site.subject("a.second.example"), site.subject("x.example")), ("second".into(), "first".into()));
    std::fs::write(site.directory().join("second.crt"), "-----BEGIN CERTIFICATE-----\nMIIB").expect("write");
    site.reload("not all certificates");
    assert_eq!(site.subject("a.second.example"), "second");

    std::fs::copy(site.directory().join("other.crt"), site.directory().join("second.crt")).expect("copy");
    site.reload("and log levels were taken over");
    assert_eq!((site.subject("a.second.example"), site.subject("x.example")), ("other".into(), "first".into()));
}

#[test]
fn clients_with_a_certificate_are_let_in_and_the_log_says_why_others_are_not() {
    let clients = |file: &str| format!("{TWO}, authority: '@/{file}', verify: {{client: true}}");
    let user = "auth: {roles: {boss: []}, users: {jo: {role: 'boss'}}}, routes: [{match: '', role: 'boss'}]";
    let mut site = Site::new(&clients("ca.crt"), user);
    let own = site.directory().to_owned();
    make(&own, "foreign", "", "basicConstraints=critical,CA:TRUE", 3000);
    for (name, issuer) in [("jo", "ca"), ("mo", "ca"), ("stranger", "foreign")] {
        make(&own, name, issuer, "extendedKeyUsage=clientAuth", 300);
    }
    site.agent.launch();
    eventually("the page of jo", LIMIT, || (site.curl("--cert jo.crt --key jo.key") == "200").then_some(()));
    assert_eq!(site.curl("--cert mo.crt --key mo.key"), "401");
    for (arguments, reason) in [
        ("", "it showed no client certificate"),
        ("--cert stranger.crt --key stranger.key", "its client certificate is of no issuer in tls.authority"),
    ] {
        assert!(site.curl(arguments).starts_with("000"), "{arguments}");
        eventually(reason, LIMIT, || site.agent.log().contains(&format!("was not let in: {reason}")).then_some(()));
    }
    site.configure(&clients("foreign.crt"), user);
    site.reload("and log levels were taken over");
    assert!(site.curl("--cert jo.crt --key jo.key").starts_with("000"));
    assert_eq!(site.curl("--cert stranger.crt --key stranger.key"), "401");
}

#[test]
fn suites_that_are_not_secure_are_left_out_with_a_warning() {
    let mut site = Site::new(&format!("{TWO}, ciphers: ['RC4-MD5', 'ECDHE-ECDSA-AES128-GCM-SHA256']"), "");
    site.agent.start();
    let log = site.agent.log();
    assert!(log.contains("tls.ciphers[0] `RC4-MD5` is not secure"), "{log}");
    let ask = |suite: &str| site.curl(&format!("--tls-max 1.2 --ciphers {suite}"));
    assert_eq!(ask("ECDHE-ECDSA-AES128-GCM-SHA256"), "200");
    assert!(ask("ECDHE-ECDSA-AES256-GCM-SHA384").starts_with("000"));
}

#[test]
fn an_idle_connection_with_a_client_certificate_takes_little_memory() {
    let clients = format!("{TWO}, authority: '@/ca.crt', verify: {{client: 'optional'}}");
    let mut site = Site::new(&clients, "limits: {connections: 400}, timeouts: {idle: '1 min'}");
    make(site.directory(), "jo", "ca", "extendedKeyUsage=clientAuth", 300);
    site.agent.start();
    let script = "import socket, ssl, sys\n\
        trust = ssl.create_default_context(cafile='ca.crt'); trust.load_cert_chain('jo.crt', 'jo.key')\n\
        def memory(): return int(next(l for l in open(f'/proc/{sys.argv[1]}/status') if l.startswith('RssAnon')).split()[1])\n\
        def connect():\n\
        \x20   s = trust.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[2]))), server_hostname='localhost')\n\
        \x20   s.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
        \x20   assert s.recv(4096).startswith(b'HTTP/1.1 200')\n\
        \x20   return s\n\
        warm = [connect() for _ in range(20)]\n\
        before = memory(); kept = [connect() for _ in range(200)]; print((memory() - before) // 200)";
    let script_file = site.agent.scratch().write("memory.py", script);
    let command = format!("python3 {} {} {}", script_file.display(), site.agent.id(), site.port);
    let kilobytes = sh(site.directory(), &command);
    println!("{} KB for each connection", kilobytes.trim());
    assert!(kilobytes.trim().parse::<u32>().is_ok_and(|kilobytes| kilobytes <= 24), "{kilobytes}");
}
