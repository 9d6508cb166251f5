//! A `web.json5` as another web server has it, with all its keys, runs here as it is: alone in its directory, in both of its
//! forms.
#![cfg(all(feature = "web", feature = "users"))]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ioto::web::own_certificate;
use web_support::{Dir, curl};

/// The whole file, in the form of a program of its own: `web`, `tls` and `log` are keys of it.
const ALONE: &str = r#"{
    profile: 'dev',
    log: { path: 'stdout', format: '%D %H %A[%P] (%T, %S): %M', types: 'error,info', sources: 'all,!mbedtls', show: 'HB' },
    tls: {
        ciphers: ['TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384'],
        verify: { client: false, issuer: false },
        certificate: '@certs/CERTIFICATE',
        key: '@certs/KEY',
    },
    web: {
        listen: ['http://127.0.0.1:HTTP', 'https://127.0.0.1:HTTPS'],
        documents: './site',
        index: 'home.html',
        name: 'localhost',
        headers: {
            'Access-Control-Allow-Origin': 'https://app.example.com',
            'Access-Control-Allow-Methods': 'GET, POST, PUT',
            'Access-Control-Allow-Headers': 'Content-Type',
            'Content-Security-Policy': "default-src 'self'",
            'X-Frame-Options': '',
        },
        auth: {
            authType: 'basic',
            algorithm: 'SHA-256',
            realm: 'example.com',
            requireTlsForBasic: true,
            secret: 'a secret that is made anew at each start here',
            track: true,
            login: '/api/public/login',
            logout: '/api/public/logout',
            roles: { user: ['view'], admin: ['user', 'edit'] },
            users: { jo: { password: 'SHA256:DIGEST', role: 'admin' } },
        },
        sessions: { cookie: '-web-session-', sameSite: 'Lax', httpOnly: true },
        limits: {
            body: '1K', header: '10K', connections: 100, requests: 1000, sessions: 20, upload: '20MB', uploads: 0,
            buffer: '64K', digest: 1000, maxFrame: '100K', maxMessage: '100K',
        },
        timeouts: { parse: '10secs', inactivity: '5mins', request: '10mins', session: '30mins', digest: '60secs', tls: '30secs' },
        webSockets: { enable: true, protocol: 'chat', ping: 'never', validateUTF: true },
        upload: { dir: './tmp', remove: true },
        signatures: { enable: false, path: 'signatures.json5', strict: false },
        mime: { '.mine': 'text/x-mine' },
        fiberBlocks: false,
        user: 'nobody',
        group: 'nogroup',
        redirect: [
            { from: 'http:///secure.html', to: 'https://', status: 301 },
            { from: '/old.html', to: '/home.html', status: 308 },
        ],
        routes: [
            { match: '/admin/', role: 'admin', authType: 'basic', redirect: '/home.html' },
            { match: '/digest/', role: 'user', authType: 'digest', algorithm: 'SHA-256' },
            { match: '/moved', redirect: '/home.html' },
            { match: '/app/', trim: '/app', compressed: true,
              cache: { maxAge: '1day', directives: ['public', 'must-revalidate'], extensions: ['html', 'css'] } },
            { match: '/put/', methods: ['GET', 'PUT', 'DELETE'], stream: true },
            { match: '/api/', handler: 'action', methods: ['GET', 'POST'], stream: false, validate: false, xsrf: false },
            { match: '', handler: '' },
        ],
    },
    conditional: { profile: { dev: { web: { index: 'home.html' } }, prod: { web: { index: 'none.html' } } } },
}"#;

/// A directory with a `web.json5` and nothing else, a site, and the program when it runs.
struct Device {
    dir: Dir,
    http: u16,
    https: u16,
    child: Option<Child>,
}

impl Device {
    fn new(text: &str) -> Self {
        let dir = Dir::new();
        for directory in ["config/site/sub", "config/site/admin", "config/site/put", "state/certs", "share"] {
            fs::create_dir_all(dir.0.join(directory)).unwrap();
        }
        for (name, text) in
            [("home.html", "<p>home"), ("x.mine", "x"), ("sub/home.html", "sub"), ("admin/home.html", "admin")]
        {
            fs::write(dir.0.join("config/site").join(name), text).unwrap();
        }
        let (certificate, key) = own_certificate(&dir.0.join("state/certs"), &["localhost".to_owned()]).unwrap();
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let digest = ring::digest::digest(&ring::digest::SHA256, b"jo:example.com:right");
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let device = Self { dir, http: free_port(), https: free_port(), child: None };
        let text = text
            .replace("CERTIFICATE", &name(&certificate))
            .replace("KEY", &name(&key))
            .replace("HTTPS", &device.https.to_string())
            .replace("HTTP", &device.http.to_string())
            .replace("DIGEST", &hex);
        fs::write(device.dir.0.join("config/web.json5"), text).unwrap();
        device
    }

    fn ioto(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ioto"));
        command.env_clear().current_dir("/").stdin(Stdio::null()).args(words);
        command
            .env("IOTO_DIRECTORIES_SHARE", self.dir.0.join("share"))
            .env("IOTO_DIRECTORIES_RUN", self.dir.0.join("run"))
            // As on a device, but who runs the tests as root need not have its user.
            .env("IOTO_SANDBOX_USER", "root");
        command.arg("--config").arg(self.dir.0.join("config")).arg("--state").arg(self.dir.0.join("state"));
        command
    }

    fn call(&self, words: &[&str]) -> Output {
        self.ioto(words).output().unwrap()
    }

    fn start(&mut self) {
        let log = fs::File::create(self.dir.0.join("log")).unwrap();
        let child = self.ioto(&["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.https)).is_err() {
            let over =
                began.elapsed() > Duration::from_secs(20) || self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            assert!(!over, "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.0.join("log")).unwrap()
    }

    /// Head and body of the answer.
    fn plain(&self, path: &str, words: &[&str]) -> String {
        let url = format!("http://localhost:{}{path}", self.http);
        curl(&[&["-i", "--noproxy", "*", "-4", &url], words].concat())
    }

    fn tls(&self, path: &str, words: &[&str]) -> String {
        let url = format!("https://localhost:{}{path}", self.https);
        curl(&[&["-ik", "--noproxy", "*", "-4", &url], words].concat())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.dir.0.join("log")).unwrap_or_default());
        }
    }
}

fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..1000).map(|_| fastrand::u16(20_000..32_000)).find(free).unwrap()
}

fn field(response: &str, name: &str) -> Option<String> {
    web_support::field(response, name)
}

#[test]
fn every_key_is_known_and_what_has_no_effect_is_said() {
    let device = Device::new(ALONE);
    let output = device.call(&["config", "check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("unknown key"), "{said}");
    for key in ["web.fiberBlocks", "web.user", "web.limits.buffer", "log.types"] {
        assert!(said.contains(key), "{key}: {said}");
    }
    for key in ["web.name", "web.redirect", "redirect", "trim", "stream", "web.headers", "cache", "compressed"] {
        assert!(!said.contains(&format!("{key} (")), "{key}: {said}");
    }
    let shown = device.call(&["config", "show", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["services"]["database"], false);
    assert_eq!(shown["web"]["name"], "localhost");
    assert_eq!(
        shown["web"]["redirect"][1],
        serde_json::json!({"from": "/old.html", "to": "/home.html", "status": 308})
    );
    let config = device.dir.0.join("config");
    assert_eq!(shown["web"]["documents"], config.join("site").to_str().unwrap());
    assert_eq!(shown["web"]["upload"]["dir"], config.join("tmp").to_str().unwrap());
}

#[test]
fn the_file_alone_runs_with_its_effects() {
    let mut device = Device::new(ALONE);
    device.start();
    let (http, https) = (device.http, device.https);

    let home = device.plain("/", &[]);
    assert!(home.starts_with("HTTP/1.1 200 OK") && home.ends_with("<p>home"), "{home}");
    assert_eq!(field(&home, "content-security-policy").as_deref(), Some("default-src 'self'"));
    assert_eq!(field(&home, "access-control-allow-origin").as_deref(), Some("https://app.example.com"));
    assert_eq!(field(&home, "x-frame-options"), None);
    assert!(device.tls("/", &[]).ends_with("<p>home"));
    assert_eq!(field(&device.plain("/x.mine", &[]), "content-type").as_deref(), Some("text/x-mine"));

    let to = |response: &str| (web_support::status(response), field(response, "location").unwrap_or_default());
    assert_eq!(to(&device.plain("/secure.html?a=b", &[])), (301, format!("https://localhost:{https}/secure.html?a=b")));
    assert_eq!(to(&device.tls("/secure.html", &[])).0, 404);
    assert_eq!(to(&device.plain("/old.html?q", &[])), (308, "http://localhost/home.html?q".to_owned()));
    assert_eq!(to(&device.tls("/moved", &[])), (302, "https://localhost/home.html".to_owned()));
    assert_eq!(to(&device.plain("/sub", &[])), (301, "http://localhost/sub/".to_owned()));

    let cached = device.plain("/app/home.html", &[]);
    assert_eq!(field(&cached, "cache-control").as_deref(), Some("public, must-revalidate, max-age=86400"));
    assert_eq!(field(&cached, "vary").as_deref(), Some("Accept-Encoding"));
    assert_eq!(field(&device.plain("/app/x.mine", &[]), "cache-control"), None);

    assert_eq!(to(&device.tls("/admin/", &[])).0, 302);
    assert!(device.tls("/admin/", &["-u", "jo:right"]).ends_with("admin"));
    assert_eq!(to(&device.tls("/admin/", &["-u", "jo:wrong"])).0, 401);
    assert_eq!(to(&device.plain("/admin/", &["-u", "jo:right"])).0, 403);
    assert_eq!(to(&device.plain("/digest/x", &[])).0, 401);
    assert!(device.plain("/digest/", &["--digest", "-u", "jo:right"]).contains("HTTP/1.1 404"));

    assert_eq!(to(&device.plain("/put/new", &["-X", "PUT", "--data-binary", "new"])).0, 201);
    assert!(device.plain("/put/new", &[]).ends_with("new"));
    assert_eq!(to(&device.plain("/new", &["-X", "PUT", "--data-binary", "new"])).0, 405);
    let long = "x".repeat(2000);
    assert_eq!(to(&device.plain("/api/status", &["--data-binary", &long])).0, 413);
    let question =
        ["-X", "OPTIONS", "-H", "Origin: https://app.example.com", "-H", "Access-Control-Request-Method: PUT"];
    let answer = device.plain("/admin/", &question);
    assert_eq!(to(&answer).0, 204);
    assert_eq!(field(&answer, "access-control-allow-methods").as_deref(), Some("GET, POST, PUT"));

    // Only the web server and the local API; no database, no cloud.
    let socket = device.dir.0.join("run/api.sock");
    let status = curl(&["--unix-socket", socket.to_str().unwrap(), "http://localhost/api/status"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let mut services: Vec<_> = status["services"].as_object().unwrap().keys().map(String::as_str).collect();
    services.sort_unstable();
    assert_eq!(services, ["api", "web"], "{status}");
    assert!(!device.dir.0.join("state/db").exists());
    assert_ne!(http, https);
}

#[test]
fn the_form_that_is_a_section_runs_as_well_and_a_device_in_the_field_is_careful() {
    let mut device = Device::new(
        "{listen: ['http://127.0.0.1:HTTP', 'https://127.0.0.1:HTTPS'], documents: 'site', index: 'home.html',
        redirect: [{from: 'http://', to: 'https://'}]}",
    );
    device.start();
    let moved = device.plain("/sub/?q", &[]);
    assert_eq!(web_support::status(&moved), 301);
    assert_eq!(field(&moved, "location").unwrap(), format!("https://localhost:{}/sub/?q", device.https));
    let home = device.tls("/sub", &["-L"]);
    assert!(home.ends_with("sub"), "{home}");
    let careful =
        ["X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Opener-Policy", "Referrer-Policy"];
    assert!(careful.iter().all(|name| field(&home, name).is_some()), "{home}");
    // The certificate is the device's own.
    assert_eq!(field(&home, "strict-transport-security"), None);
    drop(device);

    let mut device = Device::new(
        "{web: {listen: ['http://127.0.0.1:HTTP', 'https://127.0.0.1:HTTPS'], documents: 'site', index: 'home.html'},
        tls: {certificate: '@certs/CERTIFICATE', key: '../state/certs/KEY'}}",
    );
    device.start();
    assert_eq!(field(&device.tls("/", &[]), "strict-transport-security").as_deref(), Some("max-age=15552000"));
    let plain = device.plain("/", &[]);
    assert_eq!(field(&plain, "strict-transport-security"), None);
    assert!(field(&plain, "x-frame-options").is_some());
}
