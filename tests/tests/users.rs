//! Users of the running agent: how they prove who they are, and that their sessions outlive it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ioto::web::auth::password::{Hash, hash};
use ioto_tests::{Agent, Signal, eventually, free_port, python, repository};

const LIMIT: Duration = Duration::from_secs(10);

fn entry(name: &str, password: &str) -> String {
    let phc = hash(password).expect("a hash");
    let ha1 = |hash: Hash| hash.stored(&hash.ha1(name, "web", password));
    format!("{name}: {{password: '{phc}', ha1: ['{}', '{}'], role: 'user'}}", ha1(Hash::Sha256), ha1(Hash::Md5))
}

/// Users, and pages for them; `more` stands beside in `web`.
fn configure(agent: &Agent, users: &str, more: &str) {
    let route = |path: &str, more: &str| format!("{{match: '/{path}/', {more}}}");
    let routes = [
        route("basic", "role: 'user', authType: 'basic'"),
        route("digest", "role: 'user', authType: 'digest'"),
        route("md5", "role: 'user', authType: 'digest', algorithm: 'MD5'"),
        route("session", "role: 'user', authType: 'session'"),
        route("form", "xsrf: true"),
        "{}".to_owned(),
    ];
    for path in ["basic", "digest", "md5", "session", "form"] {
        agent.scratch().write(&format!("www/{path}/index.html"), "inside");
    }
    let text = format!(
        "{{web: {{auth: {{login: '/login', logout: '/logout', roles: {{user: []}}, users: {{{users}}}}}, \
         routes: [{}], {more}}}}}",
        routes.join(", ")
    );
    agent.configure("users", &text);
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sSk", "--max-time", "20"]).args(arguments).output().expect("curl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// curl with a jar of cookies.
struct Browser {
    jar: PathBuf,
    base: String,
}

impl Browser {
    fn new(agent: &Agent, name: &str) -> Self {
        Self { jar: agent.scratch().path().join(name), base: format!("http://{}", agent.address()) }
    }

    fn ask(&self, path: &str, more: &[&str]) -> String {
        let (jar, url) = (self.jar.to_string_lossy(), format!("{}{path}", self.base));
        curl(&[&["-b", &jar, "-c", &jar, "-o", "/dev/null", "-w", "%{http_code}", &url][..], more].concat())
    }

    fn login(&self, user: &str, password: &str) -> String {
        self.ask("/login", &["-d", &format!("username={user}&password={password}")])
    }

    fn page(&self) -> String {
        self.ask("/session/", &[])
    }
}

const PLAIN: &str = "sessions: {}";

fn plain(agent: &Agent, users: &str) {
    configure(agent, users, PLAIN);
    agent.configure("plain", "{web: {auth: {requireTlsForBasic: false}}}");
}

#[test]
fn requests_logs_in_by_all_ways_plain_and_over_tls() {
    let mut agent = Agent::new();
    let port = free_port();
    let listen = format!("listen: ['http://{}', 'https://127.0.0.1:{port}']", agent.address());
    configure(&agent, &entry("jo", "open sesame"), &listen);
    agent.start();
    let output = python()
        .arg(repository().join("tests/tests/users.py"))
        .args([format!("http://{}", agent.address()), format!("https://127.0.0.1:{port}")])
        .output()
        .expect("start python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_session_outlives_a_restart_and_a_kill_and_ends_with_its_logout() {
    let mut agent = Agent::new();
    plain(&agent, &entry("jo", "right"));
    agent.start();
    let browser = Browser::new(&agent, "jar");
    assert_eq!((browser.page().as_str(), browser.login("jo", "right").as_str()), ("401", "303"));
    assert_eq!(browser.page(), "200");
    agent.kill();
    agent.start();
    assert_eq!(browser.page(), "200", "after a kill");
    agent.stop();
    agent.start();
    assert_eq!(browser.page(), "200", "after a restart");
    let kept = fs::read(&browser.jar).expect("the jar");
    assert_eq!(browser.ask("/logout", &["-X", "POST"]), "204");
    agent.kill();
    agent.start();
    fs::write(&browser.jar, kept).expect("written");
    assert_eq!(browser.page(), "401", "the logout was for good");
}

#[test]
fn users_that_are_removed_or_changed_lose_their_sessions_at_a_reload_and_a_restart() {
    let mut agent = Agent::new();
    let (jo, mo) = (entry("jo", "right"), entry("mo", "right"));
    plain(&agent, &format!("{jo}, {mo}"));
    agent.start();
    let [of_jo, of_mo] = ["jo", "mo"].map(|name| {
        let browser = Browser::new(&agent, name);
        assert_eq!(browser.login(name, "right"), "303");
        browser
    });
    plain(&agent, &jo);
    agent.signal(Signal::Hup);
    eventually("the user is gone", LIMIT, || (of_mo.page() == "401").then_some(()));
    assert_eq!(of_jo.page(), "200");
    plain(&agent, &format!("{}, {}", entry("jo", "other"), entry("ann", "new")));
    agent.kill();
    agent.start();
    assert_eq!(of_jo.page(), "401", "the password is another");
    assert_eq!(Browser::new(&agent, "ann").login("ann", "new"), "303");
}

#[test]
fn a_broken_table_of_sessions_costs_the_sessions_and_nothing_else() {
    for damage in [
        "UPDATE _kept SET value = 'garbage'",
        "UPDATE _kept SET value = x'ff00', key = 'text'",
        "DROP TABLE _kept; CREATE TABLE _kept (other)",
    ] {
        let mut agent = Agent::new();
        plain(&agent, &entry("jo", "right"));
        agent.schema("{models: {Note: {id: {type: 'string', generate: 'ulid'}, text: {type: 'string'}}}}");
        agent.start();
        let browser = Browser::new(&agent, "jar");
        browser.login("jo", "right");
        agent.stop();
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()";
        let path = agent.scratch().path().join("state/db/device.db");
        let status = Command::new("python3").args(["-c", script]).arg(path).arg(damage).status().expect("python3");
        assert!(status.success());
        agent.start();
        assert_eq!((browser.page().as_str(), browser.login("jo", "right").as_str()), ("401", "303"), "{damage}");
        assert!(!agent.log().contains("was set aside"), "{damage}: {}", agent.log());
        agent.kill();
        agent.start();
        assert_eq!(browser.page(), "200", "{damage}");
    }
}

#[test]
fn sessions_in_memory_end_with_the_agent_and_a_store_needs_the_database() {
    let mut agent = Agent::new();
    plain(&agent, &entry("jo", "right"));
    agent.configure("memory", "{web: {sessions: {store: 'memory'}}}");
    agent.start();
    let browser = Browser::new(&agent, "jar");
    assert_eq!((browser.login("jo", "right").as_str(), browser.page().as_str()), ("303", "200"));
    agent.stop();
    agent.start();
    assert_eq!(browser.page(), "401");
    agent.stop();
    agent.configure("memory", "{services: {database: false}, web: {sessions: {store: 'database'}}}");
    assert_eq!(agent.run_to_end(LIMIT).code(), Some(2));
    assert!(agent.log().contains("needs the database"), "{}", agent.log());
}
