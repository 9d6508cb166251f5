//! `ioto config check` and `ioto config show`, as a user calls them.

// The tables speak of every service.
#![cfg(all(feature = "users", feature = "mqtt", feature = "sync", feature = "logs"))]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use std::os::unix::fs::MetadataExt;

use serde_json::{Value as Json, json};

/// A device's directories, below one of their own that goes with the value.
struct Device {
    root: PathBuf,
}

impl Device {
    fn with(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ioto-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let device = Self { root: std::env::temp_dir().join(name) };
        for directory in ["share", "etc/ioto.d", "state/config"] {
            fs::create_dir_all(device.root.join(directory)).unwrap();
        }
        for (name, text) in files {
            device.write(name, text);
        }
        device
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    /// Runs `ioto` with the words and the variables (`IOTO_X=…`) of `line`, which blanks separate.
    fn call(&self, line: &str) -> Output {
        let (variables, words): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.starts_with("IOTO_"));
        let variables = variables.into_iter().filter_map(|variable| variable.split_once('='));
        self.ioto().args(words).envs(variables).output().unwrap()
    }

    fn ioto(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ioto"));
        command.env_clear().current_dir(&self.root).stdin(Stdio::null());
        command.env("IOTO_DIRECTORIES_SHARE", "share").args(["--config", "etc", "--state", "state"]);
        command
    }

    /// Runs `ioto config show`, which must succeed, and reads its result.
    fn show(&self, line: &str) -> Json {
        let output = self.call(&format!("config show --json {line}"));
        assert!(output.status.success(), "{}", errors(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const IOTO: &str = "etc/ioto.json5";
const WEB: &str = "etc/web.json5";
const CHECK: &str = "config check";

/// A file, what is wrong in it, and the one line that says so after the name of the file. `@/` is the device's root.
#[rustfmt::skip]
const WRONG_FILES: &[(&str, &str, &str)] = &[
    // Syntax
    (IOTO, "", "1: expected a value, found the end of the text (column 1)"),
    (IOTO, "{\n  web: {\n", "3: expected a key or `}`, found the end of the text (column 1)"),
    (IOTO, "{\n  profile: prod,\n}", "2: expected a value, found a word: a text needs quotes (column 12)"),
    (IOTO, "{a: 'x\n'}", "1: expected a closing quote, found the end of the line (column 7)"),
    (IOTO, "{web: {},\n\n 'web': {}}", "3: the key `web` is said twice, on line 1 and on line 3 (column 2)"),
    (IOTO, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "1: is nested deeper than 32 levels (column 33)"),
    (IOTO, "[]", "1: expected an object, found a list"),
    // Types
    (IOTO, "{\n  web: 5}", "2: web: expected an object, found the number 5"),
    (IOTO, "{web: {listen: 'http://:80'}}", "1: web.listen: expected a list, found `http://:80`"),
    (IOTO, "{services: {web: 'yes'}}", "1: services.web: expected true or false, found `yes`"),
    (IOTO, "{device: {name: 5}}", "1: device.name: expected a text, found the number 5"),
    (IOTO, "{web: {headers: {'content-LENGTH': '5'}}}", "1: web.headers.content-LENGTH: is said by the server in each response, and a second one would contradict it"),
    (IOTO, "{web: {headers: {'X-A': ['b']}}}", "1: web.headers.X-A: expected a text, found a list"),
    (IOTO, "{web: {routes: [\n'/']}}", "2: web.routes[0]: expected an object, found `/`"),
    (IOTO, "{mqtt: {password: 12345}}", "1: mqtt.password: expected a text"),
    // Units and ranges
    (WEB, "{\n timeouts: {\n  parse: '10 apples'}}", "3: web.timeouts.parse: expected a time as '10 mins', '500 ms' or 'never', found `10 apples`"),
    (WEB, "{timeouts: {parse: 0}}", "1: web.timeouts.parse: the number 0 is out of range, expected 100 ms to never"),
    (WEB, "{limits: {body: '10 secs'}}", "1: web.limits.body: expected a whole number as 100, '20k' or '1MB', found `10 secs`"),
    (WEB, "{limits: {header: Infinity}}", "1: web.limits.header: expected a whole number as 100, '20k' or '1MB', found the number inf"),
    (WEB, "{threads: 17}", "1: web.threads: the number 17 is out of range, expected 1 to 16"),
    (WEB, "{limits: {header: 'unlimited'}}", "1: web.limits.header: `unlimited` is out of range, expected 1KB to 1MB"),
    (IOTO, "{mqtt: {queue: 100}}", "1: mqtt.queue: expected an object, found the number 100"),
    (IOTO, "{mqtt: {queue: {count: 0}}}", "1: mqtt.queue.count: the number 0 is out of range, expected 1 to 100000"),
    (IOTO, "{mqtt: {queue: {high: {size: '2GB'}}}}", "1: mqtt.queue.high.size: `2GB` is out of range, expected 1KB to 1GB"),
    (IOTO, "{mqtt: {queue: {low: {age: 0}}}}", "1: mqtt.queue.low.age: the number 0 is out of range, expected 1 sec to never"),
    (IOTO, "{mqtt: {queue: {policy: 'drop'}}}", "1: mqtt.queue.policy: expected 'block' or 'dropOldest' or 'dropNewest' or 'coalesce', found `drop`"),
    (IOTO, "{mqtt: {queue: {urgent: {}}}}", "1: mqtt.queue.urgent: unknown key"),
    (IOTO, "{aws: {proxy: {url: 'http://me:s3cret@gate'}}}", "1: aws.proxy.url: holds a user or a password; they belong into `username` and `password` beside it"),
    (IOTO, "{aws: {proxy: {password: 'x'}}}", "1: aws.proxy.password: needs `username` beside it"),
    (IOTO, "{mqtt: {inflight: 1.5}}", "1: mqtt.inflight: expected a whole number as 100, '20k' or '1MB', found the number 1.5"),
    // Keys
    (IOTO, "{\n web: {\n  lisen: []}}", "3: web.lisen: unknown key, did you mean `listen`?"),
    (IOTO, "{documents: '/srv'}", "1: documents: unknown key, did you mean `web.documents`?"),
    (IOTO, "{colour: 'blue'}", "1: colour: unknown key"),
    (WEB, "{routes: [{}, {mtach: '/'}]}", "1: web.routes[1].mtach: unknown key, did you mean `match`?"),
    ("etc/ioto.d/50-a.json5", "{log: {lvl: 'x'}}", "1: log.lvl: unknown key, did you mean `level`?"),
    ("etc/device.json5", "{'+name': 'x', name: 'y', '+name ': 'z'}", "1: device.name : unknown key, did you mean `name`?"),
    // Files
    (IOTO, "{database: {schema: 'no.json5'}}", "1: database.schema: there is no file `@/etc/no.json5`"),
    (IOTO, "{tls: {certificate: '@certs/no.crt', key: 'ioto.json5'}}", "1: tls.certificate: the file `@/state/certs/no.crt` cannot be read: No such file or directory (os error 2)"),
    (IOTO, "{tls: {certificate: 'ioto.json5', key: '/etc'}}", "1: tls.key: the file `/etc` cannot be read: Is a directory (os error 21)"),
    (IOTO, "{tls: {certificate: 'ioto.json5'}}", "1: tls.certificate: needs the file of its private key beside it, as `key`"),
    (IOTO, "{tls: {certificates: [{certificate: 'ioto.json5'}]}}", "1: tls.certificates[0].certificate: needs the file of its private key beside it, as `key`"),
    (IOTO, "{tls: {certificates: [{}]}}", "1: tls.certificates[0]: needs `certificate` and `key`, two files"),
    (IOTO, "{tls: {certificates: [\n{certificate: 'no.crt', key: 'ioto.json5'}]}}", "2: tls.certificates[0].certificate: the file `@/etc/no.crt` cannot be read: No such file or directory (os error 2)"),
    (IOTO, "{tls: {certificates: [{certificate: 'ioto.json5', key: 'ioto.json5', names: ['a..b']}]}}", "1: tls.certificates[0].names[0]: expected a host name as 'a.example.com' or '*.example.com', found `a..b`"),
    (IOTO, "{tls: {verify: {client: true}}}", "1: tls.verify.client: needs tls.authority, the file with the certificates of those who issue them"),
    (IOTO, "{tls: {verify: {client: 'yes'}}}", "1: tls.verify.client: expected true, false, 'optional' or 'required', found `yes`"),
    (IOTO, "{tls: {authority: 'no.crt', verify: {client: 'optional'}}}", "1: tls.authority: the file `@/etc/no.crt` cannot be read: No such file or directory (os error 2)"),
    (IOTO, "{tls: {authority: 'ioto.json5', verify: {client: true, issuer: false}}}", "1: tls.verify.issuer: expected true: a certificate that anybody can make proves nothing"),
    (IOTO, "{tls: {ciphers: ['HIGH']}}", "1: tls.ciphers[0]: unknown cipher suite `HIGH`, expected one of TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-CHACHA20-POLY1305"),
    (IOTO, "{tls: {ciphers: ['RC4-MD5', 'AES128-SHA']}}", "1: tls.ciphers: none of them is secure, expected some of TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-CHACHA20-POLY1305"),
    (WEB, "{auth: {roles: {a: []}, certificates: {panel: {role: 'a'}}}}", "1: web.auth.certificates: needs tls.verify.client: 'optional', or nobody shows one"),
    (WEB, "{auth: {roles: {a: []}}, routes: [{role: 'a', authType: 'certificate'}]}", "1: web.routes: authType 'certificate' needs tls.verify.client: 'optional', or nobody shows one"),
    (IOTO, "{tls: {authority: 'ioto.json5', verify: {client: true}}, web: {auth: {certificates: {panel: {user: 'jo'}}}}}", "1: web.auth.certificates.panel: expected a user of web.auth.users, found `jo`"),
    (IOTO, "{tls: {authority: 'ioto.json5', verify: {client: true}}, web: {auth: {certificates: {panel: {role: 'a'}}}}}", "1: web.auth.certificates.panel: expected a role of web.auth.roles, found `a`"),
    (WEB, "{auth: {certificates: {panel: {}}}}", "1: web.auth.certificates.panel: expected {user: '…'} or {role: '…'}, found an object"),
    (WEB, "{auth: {certificates: {'SHA256:00': {role: 'a'}}}}", "1: web.auth.certificates.SHA256:00: expected SHA256: and the 64 hexadecimal digits of a fingerprint"),
    (IOTO, "{mqtt: {key: 'ioto.json5'}}", "1: mqtt.key: needs the file of its certificate beside it, as `certificate`"),
    (WEB, "{documents: '@stat/www'}", "1: web.documents: `@stat/www` begins with an unknown token, expected one of @certs @config @db @site @state"),
    (IOTO, "{directories: {share: '/srv'}}", "1: directories.share: decides which files are read, so no file can say it; expected IOTO_DIRECTORIES_SHARE"),
    // Addresses
    (WEB, "{listen: ['http://:80',\n 'http://:99999']}", "2: web.listen[1]: has a bad port, expected an address as 'http://:8080', 'https://127.0.0.1:8443' or 'unix:/PATH', found `http://:99999`"),
    (IOTO, "{mqtt: {endpoint: 'mqtt://me:s3cret@broker'}}", "1: mqtt.endpoint: holds a user or a password; they belong into mqtt.username and mqtt.password"),
    (IOTO, "{aws: {endpoint: 'https://me:s3cret@host'}}", "1: aws.endpoint: holds a user or a password; requests are signed with aws.secretAccessKey"),
    (IOTO, "{aws: {endpoint: 'localhost:5000'}}", "1: aws.endpoint: expected a URL as 'https://HOST:PORT', found `localhost:5000`"),
    // What does not fit together
    (IOTO, "{profile: 'test'}", "1: profile: expected 'dev' or 'prod', found `test`"),
    (IOTO, "{conditional: {profile: {prod: {profile: 'dev'}}}}", "1: profile: cannot be set in a conditional block; set it beside `conditional`"),
    (IOTO, "{conditional: []}", "1: conditional: expected an object as {profile: {dev: {}}}, found a list"),
    (WEB, "{api: {open: true}}", "1: web.api.open: the API is never open in profile prod, expected false (or profile dev)"),
    (WEB, "{routes: [{match: '/admin/', role: 'admin'}]}", "1: web.routes[0].role: expected a role or an ability of web.auth.roles, found `admin`"),
    (WEB, "{auth: {roles: {a: ['b'], b: ['a']}}}", "1: web.auth.roles: the role `a` holds itself: a > b > a"),
    (WEB, "{auth: {users: {\njo: {password: 'MD5:00', role: 'admin'}}}}", "2: web.auth.users.jo: expected a role of web.auth.roles, found `admin`"),
    (WEB, "{auth: {users: {jo: {pasword: 'secret'}}}}", "1: web.auth.users.jo: unknown key `pasword`, expected password, ha1 or role"),
    (WEB, "{auth: {authType: 'digest', roles: {a: []}, users: {jo: {password: '$argon2id$', role: 'a'}}}, routes: [{role: 'a'}]}", "1: web.routes[0].role: digest authentication cannot verify jo: expected ha1: 'SHA256:…' there, as `ioto password USER --realm 'web'` makes it"),
    (WEB, "{auth: {roles: {a: []}}, routes: [{role: 'a', authType: 'session'}]}", "1: web.routes[0].role: needs web.auth.login, the path of the login that begins a session"),
    (WEB, "{auth: {tokens: {app: {token: 's3cret'}}}}", "1: web.auth.tokens.app: expected token: 'SHA256:…' as `ioto password token` makes it"),
    (WEB, "{auth: {login: 'login'}}", "1: web.auth.login: expected a path as '/login', found `login`"),
    (WEB, "{headers: {'X-A': 'a\\r\\nb'}}", "1: web.headers.X-A: expected a text without control characters, found `a\\r\\nb`"),
    (IOTO, "{services: {\n sync: true}}", "2: services.sync: needs sync.table, the name of the DynamoDB table"),
    (IOTO, "{services: {database: false,\n sync: true}, sync: {table: 't'}}", "2: services.sync: needs the database, expected services.database: true"),
    (IOTO, "{services: {mqtt: true}}", "1: services.mqtt: needs mqtt.endpoint, the broker as 'mqtts://HOST:PORT'"),
    (IOTO, "{aws: {accessKeyId: 'AKIA'}}", "1: aws.accessKeyId: needs aws.secretAccessKey beside it"),
    (
        IOTO,
        "{aws: {credentials: {endpoint: 'https://a.example'}}}",
        "1: aws.credentials.endpoint: needs aws.credentials.roleAlias beside it",
    ),
    (
        IOTO,
        "{aws: {credentials: {endpoint: 'a.example', roleAlias: 'ioto'}}}",
        "1: aws.credentials.endpoint: expected a URL as 'https://HOST', found `a.example`",
    ),
    (
        IOTO,
        "{aws: {accessKeyId: 'A', secretAccessKey: 's', credentials: {endpoint: 'http://a.example', roleAlias: 'ioto'}}}",
        "1: aws.accessKeyId: stands beside aws.credentials; one of the two says who we are",
    ),
    (IOTO, "{log: {rooms: {db: 'debug', kitchen: 'debug'}}}", "1: log.rooms.kitchen: is no room of the agent, expected one of agent api aws config db device fetch http1 logs mqtt net sync system update web"),
];

/// How `ioto` is called, and the one line that says what is wrong with it. `@/` is the device's root.
#[rustfmt::skip]
const WRONG_CALLS: &[(&str, &str)] = &[
    ("config check IOTO_WEB_LISEN=x", "IOTO_WEB_LISEN: names no key of the configuration, did you mean `IOTO_WEB_LISTEN`?"),
    ("config check IOTO_WEB_LIMITS_HEADER=big", "IOTO_WEB_LIMITS_HEADER: expected a whole number as 100, '20k' or '1MB', found `big`"),
    ("config check IOTO_WEB_LISTEN=[", "IOTO_WEB_LISTEN: expected a value, found the end of the text (line 1, column 2)"),
    ("config check IOTO_PROFILE=debug", "IOTO_PROFILE: expected 'dev' or 'prod', found `debug`"),
    ("config check IOTO_SERVICES_WEB=on", "IOTO_SERVICES_WEB: expected true or false, found `on`"),
    ("config check IOTO_SERVICES_SYNC=true", "IOTO_SERVICES_SYNC: needs sync.table, the name of the DynamoDB table"),
    ("config check IOTO_DIRECTORIES_SHARE=nowhere", "IOTO_DIRECTORIES_SHARE: there is no directory `@/nowhere`"),
    ("config check --profile test", "--profile: expected 'dev' or 'prod', found `test`"),
    ("config check --config nowhere", "--config: there is no directory `@/nowhere`"),
    ("config check --state @state", "--state: `@state` begins with an unknown token, expected one of @config"),
    ("run --listen 8080", "--listen: is no address to listen on, expected an address as 'http://:8080', 'https://127.0.0.1:8443' or 'unix:/PATH', found `8080`"),
];

fn assert_refused(device: &Device, call: &str, expected: &str, text: &str) {
    let output = device.call(call);
    let expected = expected.replace("@/", &device.path(""));
    assert_eq!(errors(&output), format!("{expected}\n"), "{call} {text}");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{call} {text}");
}

#[test]
fn a_wrong_file_gives_one_line_with_its_place_and_status_2() {
    for (file, text, expected) in WRONG_FILES {
        let device = Device::with(&[(file, text)]);
        assert_refused(&device, CHECK, &format!("{}:{expected}", device.path(file)), text);
    }
}

#[test]
fn a_wrong_call_gives_one_line_with_its_variable_or_option_and_status_2() {
    let device = Device::with(&[]);
    WRONG_CALLS.iter().for_each(|(call, expected)| assert_refused(&device, call, expected, ""));
}

#[test]
fn a_key_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let device = Device::with(&[(IOTO, "{tls: {certificate: 'a', key: 'b'}}"), ("etc/a", ""), ("etc/b", "")]);
    fs::set_permissions(device.root.join("etc/b"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if fs::read(device.root.join("etc/b")).is_err() {
        let expected = "1: tls.key: the file `@/etc/b` cannot be read: Permission denied (os error 13)";
        assert_refused(&device, CHECK, &format!("{}:{expected}", device.path(IOTO)), "");
    }
}

#[test]
fn text_that_is_not_utf8_and_a_file_without_end_are_refused() {
    let device = Device::with(&[]);
    fs::write(device.root.join(IOTO), b"{\n a: '\xff'}").unwrap();
    assert_refused(&device, CHECK, &format!("{}:2: the text is not UTF-8", device.path(IOTO)), "");
    fs::remove_file(device.root.join(IOTO)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", device.root.join(IOTO)).unwrap();
    assert_refused(&device, CHECK, &format!("{}: the file is longer than 1048576 bytes", device.path(IOTO)), "");
}

#[test]
fn the_state_cannot_move_itself() {
    let device = Device::with(&[
        ("share/ioto.json5", "{directories: {state: '../state'}}"),
        ("state/config/ioto.json5", "{directories: {state: '/srv'}}"),
    ]);
    let mut command = device.ioto();
    let output = command.args(["config", "check", "--state", "state"]).output().unwrap();
    assert!(output.status.success(), "the command line wins: {}", errors(&output));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ioto"));
    command.env_clear().current_dir(&device.root).env("IOTO_DIRECTORIES_SHARE", "share");
    let output = command.args(["config", "check", "--config", "etc"]).output().unwrap();
    let found = errors(&output);
    assert!(found.contains("/state/config/ioto.json5:1: directories.state: cannot be moved by files below"), "{found}");
    assert_eq!((output.status.code(), found.lines().count()), (Some(2), 1));
}

#[test]
fn what_the_agents_user_wrote_does_not_decide_what_root_does() {
    let device = Device::with(&[(IOTO, "{profile: 'prod', sandbox: {user: 'ioto'}}")]);
    if fs::metadata(device.path(IOTO)).unwrap().uid() != 0 {
        println!("skipped: only root can give files away");
        return;
    }
    let local = device.root.join("state/config/local.json5");
    let write = |text: &str, owner: u32| {
        fs::write(&local, text).unwrap();
        std::os::unix::fs::chown(&local, Some(owner), None).unwrap();
    };
    for (text, key) in [
        ("{sandbox: {user: 'root'}}", "sandbox"),
        ("{sandbox: {enable: false}}", "sandbox"),
        ("{'-sandbox': {user: 'ioto'}}", "sandbox"),
        ("{profile: 'dev'}", "profile"),
        ("{conditional: {profile: {prod: {sandbox: {landlock: false}}}}}", "sandbox"),
        ("{directories: {run: '/home/somebody'}}", "directories.run"),
    ] {
        write(text, 12345);
        let output = device.call(CHECK);
        let found = errors(&output);
        let place = format!("{}:", local.display());
        assert!(found.starts_with(&place) && found.contains(&format!(" {key}: is obeyed by")), "{text}: {found}");
        assert_eq!((output.status.code(), found.lines().count()), (Some(2), 1), "{text}: {found}");
        write(text, 0);
        let found = errors(&device.call(CHECK));
        assert!(!found.contains("is obeyed by"), "{text}: {found}");
    }
    // All else may be said there, and the same again.
    write("{log: {level: 'debug'}, profile: 'prod', sandbox: {user: 'ioto'}}", 12345);
    assert_eq!(device.show("")["log"]["level"], "debug");
    // Root's, and others may write it.
    write("{sandbox: {enable: false}}", 0);
    fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(errors(&device.call(CHECK)).contains("is obeyed by"));
}

#[test]
fn all_errors_of_all_files_are_said_at_once() {
    let device = Device::with(&[
        (IOTO, "{web: {lisen: []},\n log: {level: 'loud'}}"),
        ("etc/device.json5", "{name: 5}"),
        ("etc/local.json5", "{"),
    ]);
    let output = device.call("config check IOTO_X=1");
    let found = errors(&output);
    let expected = [
        "etc/device.json5:1: device.name: expected a text",
        "etc/ioto.json5:1: web.lisen: unknown key",
        "etc/ioto.json5:2: log.level: expected 'error' or",
        "etc/local.json5:1: expected a key",
        "IOTO_X: names no key",
    ];
    assert_eq!(found.lines().count(), expected.len(), "{found}");
    assert!(found.lines().zip(expected).all(|(line, part)| line.contains(part)), "{found}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let device = Device::with(&[
        (
            "share/ioto.json5",
            "{device: {name: '1', model: '1', product: '1', description: '1'},
              web: {index: '1'}, log: {queue: 1}, database: {queue: 1}, mqtt: {inflight: 1}}",
        ),
        (
            "etc/ioto.json5",
            "{device: {name: '2', model: '2', product: '2', description: '2'},
              web: {index: '2'}, log: {queue: 2}, database: {queue: 2}}",
        ),
        ("etc/web.json5", "{index: '3'}"),
        ("etc/device.json5", "{name: '3', model: '3', product: '3', description: '3'}"),
        ("etc/local.json5", "{device: {model: '4', product: '4', description: '4'}, log: {queue: 4}}"),
        ("etc/ioto.d/10.json5", "{device: {product: '5', description: '5'}}"),
        ("etc/ioto.d/20.json5", "{device: {product: '6', description: '6'}}"),
        ("etc/ioto.d/30.txt", "not read"),
        ("state/config/ioto.json5", "\n{device: {description: '7'}, log: {level: 'debug'}}"),
    ]);
    let shown = device.show("--origin IOTO_LOG_LEVEL=warn IOTO_WEB_LIMITS_HEADER=20k IOTO_PROFILE=prod --profile dev");
    let rows = [
        ("/mqtt/inflight", json!(1), device.path("share/ioto.json5:2")),
        ("/database/queue", json!(2), device.path("etc/ioto.json5:2")),
        ("/web/index", json!("3"), device.path("etc/web.json5:1")),
        ("/device/name", json!("3"), device.path("etc/device.json5:1")),
        ("/device/model", json!("4"), device.path("etc/local.json5:1")),
        ("/log/queue", json!(4), device.path("etc/local.json5:1")),
        ("/device/product", json!("6"), device.path("etc/ioto.d/20.json5:1")),
        ("/device/description", json!("7"), device.path("state/config/ioto.json5:2")),
        ("/log/level", json!("warn"), "IOTO_LOG_LEVEL".into()),
        ("/web/limits/header", json!("20KB"), "IOTO_WEB_LIMITS_HEADER".into()),
        ("/profile", json!("dev"), "--profile".into()),
        ("/web/limits/body", json!("100KB"), "default".into()),
    ];
    for (pointer, value, origin) in rows {
        assert_eq!(shown.pointer(pointer), Some(&json!({"value": value, "origin": origin})), "{pointer}");
    }
}

#[test]
fn the_profile_is_the_callers_then_the_environments_then_the_last_files() {
    let blocks = "conditional: {profile: {dev: {device: {name: 'dev'}}, prod: {device: {name: 'prod'}}}}";
    let device = Device::with(&[("share/ioto.json5", &format!("{{profile: 'prod', {blocks}}}"))]);
    let name = |line: &str| device.show(line)["device"]["name"].clone();
    assert_eq!(name(""), "prod");
    device.write(IOTO, "{profile: 'dev'}");
    assert_eq!(name(""), "dev", "a later file chooses the blocks of an earlier one");
    assert_eq!(device.show("")["directories"]["run"], device.path("state/run"));
    assert_eq!(name("IOTO_PROFILE=prod"), "prod");
    assert_eq!(name("IOTO_PROFILE=prod --profile dev"), "dev");
    assert_eq!(device.show("--profile prod")["directories"]["run"], "/run/ioto");
}

#[test]
fn paths_are_absolute_wherever_they_are_said() {
    let device = Device::with(&[
        (IOTO, "{directories: {db: '@state/data'}, web: {documents: 'www', listen: ['unix:x.sock']}}"),
        ("etc/ioto.d/a.json5", "{directories: {run: '/run//a/./b'}}"),
    ]);
    let shown = device.show("IOTO_DIRECTORIES_SITE=pages");
    assert_eq!(shown["web"]["documents"], device.path("etc/www"));
    assert_eq!(shown["web"]["listen"][0], format!("unix:{}", device.path("etc/x.sock")));
    assert_eq!(shown["database"]["path"], device.path("state/data/device.db"));
    assert_eq!(shown["directories"]["site"], device.path("pages"));
    assert_eq!(shown["directories"]["run"], "/run/a/b");
    assert_eq!(device.show("IOTO_WEB_DOCUMENTS=@site/x")["web"]["documents"], device.path("share/www/x"));
}

#[test]
fn the_environment_says_flags_numbers_lists_and_objects() {
    let device = Device::with(&[(IOTO, "{web: {headers: {a: 'b'}, listen: ['http://:1']}}")]);
    let shown = device.show(
        "IOTO_SERVICES_WEB=false IOTO_web_Limits_Requests=unlimited IOTO_WEB_LISTEN=http://:81 IOTO_WEB_HEADERS={c:'d'} \
         IOTO_MQTT_SUBSCRIBE=['a/#',{filter:'b',qos:0}] IOTO_MQTT_PORT=1883",
    );
    assert_eq!(shown["services"]["web"], false);
    assert_eq!(shown["web"]["limits"]["requests"], "unlimited");
    assert_eq!(shown["web"]["listen"], json!(["http://:81"]));
    assert_eq!(shown["web"]["headers"], json!({"a": "b", "c": "d"}));
    assert_eq!(shown["mqtt"]["subscribe"], json!([{"filter": "a/#", "qos": 1}, {"filter": "b", "qos": 0}]));
    assert_eq!(shown["mqtt"]["port"], 1883);
    let added = device.show("IOTO_WEB={'+listen':['http://:2']}");
    assert_eq!(added["web"]["listen"], json!(["http://:1", "http://:2"]));
}

#[test]
fn a_section_file_may_stand_alone() {
    let device = Device::with(&[(WEB, "{web: {index: 'a'}, log: {level: 'warn'}, tls: {}}")]);
    let shown = device.show("");
    assert_eq!((&shown["web"]["index"], &shown["log"]["level"]), (&json!("a"), &json!("warn")));
}

#[test]
fn null_gives_the_default_back() {
    let device =
        Device::with(&[(IOTO, "{web: {index: 'a', limits: {body: 5}}}"), (WEB, "{index: null, limits: null}")]);
    let shown = device.show("");
    assert_eq!((&shown["web"]["index"], &shown["web"]["limits"]["body"]), (&json!("index.html"), &json!("100KB")));
}

#[test]
fn the_schema_is_the_integrators_else_the_images() {
    let device = Device::with(&[]);
    let schema = || device.show("")["database"]["schema"].clone();
    assert_eq!(schema(), device.path("etc/schema.json5"));
    device.write("share/schema.json5", "{}");
    assert_eq!(schema(), device.path("share/schema.json5"));
    device.write("etc/schema.json5", "{}");
    assert_eq!(schema(), device.path("etc/schema.json5"));
}

#[test]
fn keys_without_effect_give_one_warning() {
    let device = Device::with(&[
        (IOTO, "{_note: 5, ai: {enable: true},\n limits: {fibers: 4}, log: {path: 'ioto.log', format: '%D %M'}}"),
        (WEB, "{user: 'www', limits: {buffer: '1k'}, routes: [{match: '/x', _y: 1}]}"),
    ]);
    let output = device.call("config check IOTO_LIMITS_FIBERS=5");
    let (ioto, web) = (device.path(IOTO), device.path(WEB));
    let expected = format!(
        "Warning: {web}:1: web.user: is not looked at: the whole agent runs as `sandbox.user` when it is started as root\n\
         Warning: these keys have no effect in this version: ai ({ioto}:1), limits ({ioto}:2), web.user ({web}:1), \
         web.limits.buffer ({web}:1), log.path ({ioto}:2), log.format ({ioto}:2)\n"
    );
    assert_eq!(errors(&output), expected);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The configuration is valid.\n");
    assert!(output.status.success());
}

#[test]
fn secrets_are_masked_wherever_the_configuration_is_shown() {
    let text =
        "{mqtt: {password: 's3cret'}, aws: {accessKeyId: 'A', secretAccessKey: 's3cret', sessionToken: 's3cret'}}";
    let device = Device::with(&[(IOTO, text), (WEB, "{auth: {users: {jo: {password: 's3cret', ha1: 's3cret'}}}}")]);
    for line in ["config show", "config show --origin", "config show --json", "config show --json --origin"] {
        let text = String::from_utf8(device.call(line).stdout).unwrap();
        assert!(text.matches("***").count() == 4 && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let text = r#"{web: {headers: {'X-A': 'a "b" \\ \'c\' \\"'}, mime: {'.x': 'a/b'}, routes: [{match: '/a/', handler: 'action'}]}}"#;
    let device = Device::with(&[(IOTO, text), ("etc/schema.json5", "{}")]);
    let before = device.show("");
    assert_eq!(before["web"]["headers"]["X-A"], r#"a "b" \ 'c' \""#);
    let shown = String::from_utf8(device.call("config show --origin").stdout).unwrap();
    let own_place = |line: &&str| !line.starts_with("    share:") && !line.starts_with("    config:");
    device.write(IOTO, &shown.lines().filter(own_place).collect::<Vec<_>>().join("\n"));
    assert_eq!(device.show(""), before);
}

#[test]
fn the_files_of_the_image_are_valid_in_both_profiles() {
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs-overlay");
    let device = Device::with(&[]);
    let show = |profile: &str| {
        let mut command = device.ioto();
        command.env("IOTO_DIRECTORIES_SHARE", overlay.join("usr/share/ioto"));
        command.arg("--config").arg(overlay.join("etc/ioto"));
        let output = command.args(["config", "show", "--json", "--profile", profile]).output().unwrap();
        assert_eq!(errors(&output), "");
        serde_json::from_slice::<Json>(&output.stdout).unwrap()["web"].clone()
    };
    assert_eq!(show("dev")["listen"], json!(["http://127.0.0.1:8080", "https://127.0.0.1:8443"]));
    assert_eq!(show("dev")["api"]["open"], true);
    assert_eq!(show("prod")["listen"], json!(["http://:80", "https://:443"]));
    assert_eq!(show("prod")["api"]["open"], false);
}

#[test]
fn what_the_configuration_of_the_image_suggests_is_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs-overlay/etc/ioto/ioto.json5");
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    // The first two lines are prose; `lines` goes on behind them.
    lines.by_ref().take(2).for_each(drop);
    // More prose begins with a large letter.
    let is_prose = |line: &String| line.trim_start().starts_with(|c: char| c.is_ascii_uppercase());
    let said: Vec<_> = lines.map(|line| line.replacen("// ", "", 1)).filter(|line| !is_prose(line)).collect();
    let device = Device::with(&[(IOTO, &said.join("\n"))]);
    fs::create_dir(device.root.join("state/certs")).unwrap();
    for name in ["web.crt", "web.key", "shop.crt", "shop.key", "staff-ca.crt", "broker-ca.crt", "logs-ca.crt"] {
        device.write(&format!("state/certs/{name}"), "");
    }
    assert_eq!(errors(&device.call(CHECK)), "");
    assert_eq!(device.show("")["services"]["sync"], true, "the suggestions were in effect");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let device = Device::with(&[]);
    let mut command = device.ioto();
    let mut child = command.args(["config", "show"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), errors(&output).as_str()), (Some(0), ""));
}

#[test]
fn bad_usage_is_status_2() {
    let device = Device::with(&[]);
    for line in ["", "fly", "config", "config show --fast", "run --json", "run --exit-after soon", "--state"] {
        let output = device.call(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(errors(&output).ends_with("\nTry `ioto --help`.\n"), "{line}: {}", errors(&output));
    }
    for line in ["--version", "--help", "run --help"] {
        assert!(device.call(line).status.success(), "{line}");
    }
}

#[test]
fn a_route_says_how_files_are_sent() {
    let routes = "[{match: '/a/', compressed: true, cache: {maxAge: '1 day', directives: ['public', 'no-cache=x'], \
                  extensions: ['.CSS', 'js']}}, {methods: ['GET', 'PUT', 'DELETE']}]";
    let device = Device::with(&[(WEB, &format!("{{routes: {routes}, limits: {{upload: '1GB'}}}}"))]);
    assert_eq!(errors(&device.call("config check")), "");
    let shown = device.show("");
    let first = &shown["web"]["routes"][0];
    assert_eq!((&first["compressed"], &first["cache"]["maxAge"]), (&json!(true), &json!("1 day")));
    assert_eq!(first["cache"]["extensions"], json!(["css", "js"]));
    assert_eq!(
        shown["web"]["routes"][1],
        json!({"match": "", "handler": "file", "methods": ["GET", "PUT", "DELETE"], "role": "public"})
    );
    assert_eq!(shown["web"]["limits"]["upload"], "1GB");
    device.write(WEB, "{routes: [{cache: {maxAge: 'soon', directives: ['a b', \"x\\ny\"]}}]}");
    let output = device.call("config check");
    assert!(!output.status.success());
    let text = errors(&output);
    assert!(
        text.contains("web.routes[0].cache.maxAge") && text.contains("expected a directive as 'no-cache'"),
        "{text}"
    );
}

#[test]
fn stored_passwords_of_no_use_are_told_and_shut_out_their_user_alone() {
    let md5 = "0".repeat(32);
    let users = format!("{{auth: {{users: {{old: {{password: 'MD5:{md5}'}}, odd: {{password: 'BF1:s3cret'}}}}}}}}");
    let output = Device::with(&[(WEB, &users)]).call("config check");
    let expected = "Warning: web.auth.users.old: `password` is quick to guess; make a new one with `ioto password`\n\
         Warning: web.auth.users.odd: `password` is in no known format, expected '$argon2id$…' as `ioto password` \
         makes it, 'SHA256:…' or 'MD5:…'; it is not used\n";
    assert_eq!(errors(&output), expected);
    assert!(output.status.success());
}
