//! Sessions, cookies and tokens against pages of other sites, on real sockets.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ioto::config::{Auth, AuthType, Roles, Route, Secret, User, Web};
use ioto::web::auth::password::Hash;
use ioto::web::auth::{Answer, SessionStore};
use ioto::web::{Cookie, Exchange, Server};
use web_support::{Dir, Running, body, curl, field, get, settings, status};

fn user(name: &str, password: &str) -> User {
    let password = Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1(name, "web", password)));
    User { name: name.into(), password, ha1: vec![], role: "user".into() }
}

fn settings_with_users() -> Web {
    let route = |matches: &str, role: &str, xsrf: bool| Route {
        matches: matches.into(),
        handler: "action".into(),
        role: role.into(),
        auth_type: AuthType::Session,
        xsrf,
        ..Route::default()
    };
    let mut web = settings(std::env::temp_dir());
    web.auth = Auth {
        users: vec![user("jo", "right"), user("mo", "right")],
        roles: Roles::new(&[("user".into(), vec![])]).unwrap(),
        login: "/login".into(),
        logout: "/logout".into(),
        require_tls: false,
        ..Auth::default()
    };
    web.routes = vec![
        route("/user/xsrf", "user", true),
        route("/user/", "user", false),
        route("/xsrf", "", true),
        route("", "", false),
    ];
    web
}

fn server(web: Web) -> Server {
    let who = async |exchange: &mut Exchange| {
        let size = exchange.bytes().await?.len();
        exchange.send("text/plain", format!("{} {size}", exchange.user().unwrap_or("nobody"))).await
    };
    Server::new(web)
        .action("/user", who)
        .action("/xsrf", who)
        .action("/create", async |exchange: &mut Exchange| {
            let value = exchange.query("value").unwrap_or_default();
            exchange.session().set("name", &value)?;
            exchange.send("text/plain", "created").await
        })
        .action("/check", async |exchange: &mut Exchange| {
            let value = exchange.session().get("name").unwrap_or_else(|| "none".into());
            exchange.send("text/plain", value).await
        })
        .action("/cookie", async |exchange: &mut Exchange| {
            let text = |name: &str| exchange.query(name).unwrap_or_default();
            let cookie = Cookie::new(text("name"), text("value")).path(text("path"));
            let sent = exchange.cookie("seen").unwrap_or("none").to_owned();
            exchange.set_cookie(&cookie)?;
            exchange.send("text/plain", sent).await
        })
        .action("/become", async |exchange: &mut Exchange| {
            let name = exchange.query("user").unwrap_or_default();
            exchange.login(&name).await?;
            exchange.session().set("name", "inside")?;
            exchange.send("text/plain", exchange.user().unwrap_or("nobody")).await
        })
        .action("/leave", async |exchange: &mut Exchange| {
            exchange.logout().await?;
            exchange.send("text/plain", exchange.user().unwrap_or("nobody")).await
        })
        .listen("http://127.0.0.1:0")
        .unwrap()
}

/// curl with its own jar of cookies.
struct Browser {
    jar: Dir,
    base: String,
}

impl Browser {
    fn new(server: &Running) -> Self {
        Self { jar: Dir::new(), base: format!("http://{}", server.address()) }
    }

    fn ask(&self, path: &str, arguments: &[&str]) -> String {
        let jar = self.jar.0.join("jar").to_string_lossy().into_owned();
        let url = format!("{}{path}", self.base);
        curl(&[&["-i", "-c", &jar, "-b", &jar, &url][..], arguments].concat())
    }

    fn login(&self, user: &str, password: &str) -> String {
        self.ask("/login", &["-d", &format!("username={user}&password={password}")])
    }

    fn who(&self) -> String {
        body(&self.ask("/user/x", &[])).to_owned()
    }
}

#[test]
fn visitors_have_variables_that_end_with_a_login() {
    let running = Running::start(server(settings_with_users()));
    let (jo, other) = (Browser::new(&running), Browser::new(&running));
    assert_eq!(body(&jo.ask("/check", &[])), "none");
    let created = jo.ask("/create?value=one", &[]);
    let cookie = field(&created, "set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; SameSite=Lax; HttpOnly"), "{cookie}");
    assert_eq!((body(&jo.ask("/check", &[])), body(&other.ask("/check", &[]))), ("one", "none"));
    assert!(field(&jo.ask("/create?value=two", &[]), "set-cookie").is_none());
    assert_eq!(body(&jo.ask("/check", &[])), "two");
    assert_eq!(status(&jo.ask("/user/x", &[])), 401);
    assert_eq!(status(&jo.ask(&format!("/create?value={}", "x".repeat(5000)), &[])), 413);
    assert_eq!(status(&jo.login("jo", "right")), 303);
    assert_eq!((jo.who().as_str(), body(&jo.ask("/check", &[]))), ("jo 0", "none"));
    jo.ask("/create?value=three", &[]);
    assert_eq!((jo.who().as_str(), body(&jo.ask("/check", &[]))), ("jo 0", "three"));
    // A page of another site can post, and takes away neither the variable nor the cookie.
    let posted = jo.ask("/create?value=evil", &["-d", "x", "-H", "Origin: http://evil.example"]);
    assert!(status(&posted) == 403 && field(&posted, "set-cookie").is_none(), "{posted}");
    assert_eq!((jo.who().as_str(), body(&jo.ask("/check", &[]))), ("jo 0", "three"));
    // Thousands of visitors push out each other, and no user.
    for _ in 0..300 {
        get(&running, "/create?value=x", "");
    }
    assert_eq!((jo.who().as_str(), body(&jo.ask("/check", &[]))), ("jo 0", "three"));
}

#[test]
fn the_session_of_a_stranger_does_not_get_what_belongs_to_a_user() {
    let running = Running::start(server(settings_with_users()));
    let id = |answer: &str| field(answer, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let stranger = id(&get(&running, "/create?value=strange", ""));
    let user = id(&get(&running, "/become?user=jo", ""));
    // A neighbour's page may set a cookie that comes before the user's own.
    let both = format!("Cookie: {stranger}; {user}\r\n");
    assert_eq!(body(&get(&running, "/check", &both)), "inside");
    assert_eq!(status(&get(&running, "/create?value=private", &both)), 200);
    assert_eq!(body(&get(&running, "/check", &format!("Cookie: {stranger}\r\n"))), "strange");
    assert_eq!(body(&get(&running, "/check", &format!("Cookie: {user}\r\n"))), "private");
}

#[test]
fn what_a_user_sees_and_what_tells_a_token_is_not_shown_again_by_a_cache() {
    let running = Running::start(server(settings_with_users()));
    let jo = Browser::new(&running);
    let caches = |path: &str| field(&jo.ask(path, &[]), "cache-control");
    assert_eq!(caches("/check"), None);
    assert_eq!(caches("/xsrf").as_deref(), Some("private, no-cache"));
    jo.login("jo", "right");
    for path in ["/user/x", "/check", "/xsrf"] {
        assert_eq!(caches(path).as_deref(), Some("private, no-cache"), "{path}");
    }
}

#[test]
fn a_login_leads_to_a_page_of_this_server_only() {
    let running = Running::start(server(settings_with_users()));
    for (target, expected) in [("/a?b=c", "/a?b=c"), ("//evil.example/", "/"), ("https://evil.example", "/")] {
        let form = format!("username=jo&password=right&redirect={}", target.replace('?', "%3F").replace('=', "%3D"));
        let answer = Browser::new(&running).ask("/login", &["-d", &form]);
        assert_eq!((status(&answer), field(&answer, "location").unwrap().as_str()), (303, expected));
    }
}

#[test]
fn a_route_with_xsrf_takes_changes_from_its_own_pages_only() {
    let running = Running::start(server(settings_with_users()));
    let visitor = Browser::new(&running);
    let post = |browser: &Browser, path: &str, arguments: &[&str]| {
        let answer = browser.ask(path, &[&["-d", "a=b"], arguments].concat());
        (status(&answer), body(&answer).to_owned())
    };
    let refused = post(&visitor, "/xsrf", &[]);
    assert!(refused.0 == 400 && refused.1.contains("X-XSRF-TOKEN"), "{refused:?}");
    let first = visitor.ask("/xsrf", &[]);
    let token = field(&first, "x-xsrf-token").unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(field(&visitor.ask("/xsrf", &[]), "x-xsrf-token").unwrap(), token);
    let header = format!("X-XSRF-TOKEN: {token}");
    assert_eq!(post(&visitor, "/xsrf", &["-H", &header]), (200, "nobody 3".into()));
    assert_eq!(post(&visitor, "/xsrf", &["-d", &format!("-xsrf-={token}")]), (200, "nobody 43".into()));
    assert_eq!(post(&visitor, "/xsrf", &["-X", "DELETE"]).0, 400);
    assert_eq!(post(&visitor, "/xsrf", &["-H", "X-XSRF-TOKEN: 00000000000000000000000000000000"]).0, 400);
    assert_eq!(post(&visitor, "/xsrf", &["-H", &header, "-H", "Origin: http://evil.example"]).0, 403);
    assert_eq!(post(&visitor, "/xsrf", &["-H", &header, "-H", "Sec-Fetch-Site: same-site"]).0, 403);
    assert_eq!(post(&Browser::new(&running), "/xsrf", &["-H", &header]).0, 400, "without the cookie");
    // A form with files: the field stands before them.
    let file = visitor.jar.0.join("file");
    std::fs::write(&file, "x".repeat(60_000)).unwrap();
    let upload = format!("file=@{}", file.display());
    let token_field = format!("-xsrf-={token}");
    let sent = visitor.ask("/xsrf", &["-F", &token_field, "-F", &upload]);
    assert!(
        status(&sent) == 200 && body(&sent).split(' ').nth(1).unwrap().parse::<usize>().unwrap() > 60_000,
        "{sent}"
    );
    assert_eq!(status(&visitor.ask("/xsrf", &["-F", &upload, "-F", &token_field])), 400);
    // A user's token is that of the session, another after each login; the one of before is worth nothing.
    visitor.login("jo", "right");
    assert_eq!(post(&visitor, "/xsrf", &["-H", &header]).0, 400);
    let of_user = field(&visitor.ask("/user/xsrf", &[]), "x-xsrf-token").unwrap();
    assert_ne!(of_user, token);
    for path in ["/xsrf", "/user/xsrf"] {
        let expected = (200, "jo 3".to_owned());
        assert_eq!(post(&visitor, path, &["-H", &format!("X-XSRF-TOKEN: {of_user}")]), expected, "{path}");
        assert_eq!(post(&visitor, path, &["-d", &format!("-xsrf-={of_user}")]).0, 200, "{path}");
        assert_eq!(post(&visitor, path, &[]).0, 400, "{path}");
    }
    visitor.login("jo", "right");
    assert_ne!(field(&visitor.ask("/user/xsrf", &[]), "x-xsrf-token").unwrap(), of_user);
}

#[test]
fn a_visitors_token_and_session_have_one_cookie() {
    let mut web = settings_with_users();
    web.routes.insert(0, Route { xsrf: true, ..web.routes[3].clone() });
    web.routes[0].matches = "/create".into();
    let running = Running::start(server(web.clone()));
    let visitor = Browser::new(&running);
    // A session that begins with the answer that offers the token takes its cookie.
    let created = visitor.ask("/create?value=one", &[]);
    assert_eq!(created.matches("Set-Cookie: -web-session-=").count(), 1, "{created}");
    let token = field(&created, "x-xsrf-token").unwrap();
    let header = format!("X-XSRF-TOKEN: {token}");
    assert_eq!(body(&visitor.ask("/check", &[])), "one");
    let posted = visitor.ask("/create?value=two", &["-d", "x", "-H", &header]);
    assert!(status(&posted) == 200 && field(&posted, "set-cookie").is_none(), "{posted}");
    assert_eq!(body(&visitor.ask("/check", &[])), "two");
    // One that begins later has a new cookie, for the first may be known to somebody else, and tells its token.
    let visitor = Browser::new(&running);
    let header = format!("X-XSRF-TOKEN: {}", field(&visitor.ask("/xsrf", &[]), "x-xsrf-token").unwrap());
    let created = visitor.ask("/create?value=three", &["-d", "x", "-H", &header]);
    assert_eq!(created.matches("Set-Cookie: -web-session-=").count(), 1, "{created}");
    let next = format!("X-XSRF-TOKEN: {}", field(&created, "x-xsrf-token").unwrap());
    assert_ne!(next, header);
    assert_eq!(status(&visitor.ask("/xsrf", &["-d", "x", "-H", &header])), 400);
    assert_eq!(status(&visitor.ask("/xsrf", &["-d", "x", "-H", &next])), 200);
    assert_eq!(body(&visitor.ask("/check", &[])), "three");
    // A strict cookie does not come with a link of another site: the answer must not take its place.
    web.auth.sessions.same_site = "Strict";
    let running = Running::start(server(web));
    let linked = get(&running, "/xsrf", "Sec-Fetch-Site: cross-site\r\n");
    assert!(status(&linked) == 200 && field(&linked, "set-cookie").is_none(), "{linked}");
    assert!(field(&get(&running, "/xsrf", "Sec-Fetch-Site: none\r\n"), "set-cookie").is_some());
}

#[test]
fn cookies_are_set_as_asked_and_broken_ones_refused() {
    let running = Running::start(server(settings_with_users()));
    let set = get(&running, "/cookie?name=color&value=blue&path=/x", "Cookie: a=b; seen=yes\r\n");
    assert_eq!(
        (field(&set, "set-cookie").unwrap().as_str(), body(&set)),
        ("color=blue; Path=/x; SameSite=Lax; HttpOnly", "yes")
    );
    for bad in
        ["name=a%0d%0aX:y&value=b&path=/", "name=a&value=b;Domain=x&path=/", "name=a&value=b&path=x", "name=&path=/"]
    {
        let answer = get(&running, &format!("/cookie?{bad}"), "");
        assert!(status(&answer) == 400 && field(&answer, "set-cookie").is_none(), "{answer}");
    }
}

#[test]
fn an_action_logs_in_and_out() {
    let running = Running::start(server(settings_with_users()));
    let browser = Browser::new(&running);
    assert_eq!(body(&browser.ask("/become?user=mo", &[])), "mo");
    assert_eq!((browser.who().as_str(), body(&browser.ask("/check", &[]))), ("mo 0", "inside"));
    assert_eq!(status(&Browser::new(&running).ask("/become?user=nobody", &[])), 500);
    assert_eq!(body(&browser.ask("/leave", &[])), "nobody");
    assert_eq!(status(&browser.ask("/user/x", &[])), 401);
}

#[test]
fn users_come_and_go_while_the_server_runs() {
    let running = Running::start(server(settings_with_users()));
    let handle = &running.handle;
    let (jo, mo) = (Browser::new(&running), Browser::new(&running));
    jo.login("jo", "right");
    mo.login("mo", "right");
    assert!(handle.add_user(user("jo", "x")).is_err() && handle.update_user(user("ann", "x")).is_err());
    assert!(handle.add_user(User { role: "boss".into(), ..user("ann", "x") }).is_err());
    assert!(handle.add_user(User { password: Secret::new("BF1:1:2:3"), ..user("ann", "x") }).is_err());
    handle.add_user(user("ann", "new")).unwrap();
    let ann = Browser::new(&running);
    assert_eq!(status(&ann.login("ann", "new")), 303);
    handle.update_user(user("jo", "other")).unwrap();
    assert_eq!(status(&jo.ask("/user/x", &[])), 401, "the session ended with the password");
    assert_eq!((status(&jo.login("jo", "right")), status(&jo.login("jo", "other"))), (401, 303));
    assert!(handle.remove_user("mo") && !handle.remove_user("mo"));
    assert_eq!(status(&mo.ask("/user/x", &[])), 401);
    handle.set_auth(&Auth { users: vec![user("jo", "other")], ..settings_with_users().auth });
    assert_eq!((jo.who().as_str(), status(&ann.ask("/user/x", &[]))), ("jo 0", 401));
}

/// A store in memory, which fails as often as it is told.
#[derive(Default)]
struct Store {
    rows: Mutex<std::collections::HashMap<Vec<u8>, String>>,
    writes: Mutex<u32>,
    broken: Mutex<bool>,
}

impl SessionStore for Store {
    fn load(&self) -> Answer<'_, Vec<(Vec<u8>, String)>> {
        let rows = self.rows.lock().unwrap().clone().into_iter().collect();
        let broken = *self.broken.lock().unwrap();
        Box::pin(async move { if broken { Err("broken".into()) } else { Ok(rows) } })
    }

    fn write(&self, kept: Vec<(Vec<u8>, String)>, removed: Vec<Vec<u8>>) -> Answer<'_, ()> {
        Box::pin(async move {
            if *self.broken.lock().unwrap() {
                return Err("broken".into());
            }
            *self.writes.lock().unwrap() += 1;
            let mut rows = self.rows.lock().unwrap();
            removed.iter().for_each(|key| drop(rows.remove(key)));
            rows.extend(kept);
            Ok(())
        })
    }
}

#[test]
fn kept_sessions_outlive_the_server_and_a_logout_ends_them_for_good() {
    let store = Arc::new(Store::default());
    let start = || Running::start(server(settings_with_users()).sessions(store.clone()));
    let running = start();
    let mut browser = Browser::new(&running);
    browser.login("jo", "right");
    browser.ask("/create?value=kept", &[]);
    for _ in 0..20 {
        assert_eq!(browser.who(), "jo 0");
    }
    assert_eq!(*store.writes.lock().unwrap(), 1, "using a session does not write");
    let jar = browser.jar.0.join("jar");
    let cookie = std::fs::read_to_string(&jar).unwrap();
    let rows = format!("{:?}", store.rows.lock().unwrap());
    let id = cookie.split_whitespace().last().unwrap();
    assert!(id.len() == 32 && !rows.contains(id), "{rows}");
    smol::block_on(running.handle.save_sessions());
    drop(running);

    let running = start();
    browser.base = format!("http://{}", running.address());
    assert_eq!((browser.who().as_str(), body(&browser.ask("/check", &[]))), ("jo 0", "kept"));
    let token = field(&browser.ask("/user/x", &[]), "x-xsrf-token").unwrap();
    assert_eq!(status(&browser.ask("/user/x", &["-d", "x", "-H", &format!("X-XSRF-TOKEN: {token}")])), 200);
    *store.broken.lock().unwrap() = true;
    assert_eq!(status(&browser.ask("/logout", &["-X", "POST"])), 503);
    *store.broken.lock().unwrap() = false;
    std::fs::write(&jar, &cookie).unwrap();
    assert_eq!(status(&browser.ask("/logout", &["-X", "POST"])), 204);
    assert!(store.rows.lock().unwrap().is_empty());
    std::fs::write(&jar, &cookie).unwrap();
    drop(running);
    let running = start();
    browser.base = format!("http://{}", running.address());
    assert_eq!(status(&browser.ask("/user/x", &[])), 401);
}

#[test]
fn a_store_that_is_broken_or_holds_garbage_stops_nobody() {
    let store = Arc::new(Store::default());
    store.rows.lock().unwrap().insert(vec![1; 32], "garbage".into());
    store.rows.lock().unwrap().insert(vec![2], String::new());
    *store.broken.lock().unwrap() = true;
    let running = Running::start(server(settings_with_users()).sessions(store.clone()));
    let browser = Browser::new(&running);
    assert_eq!(status(&browser.login("jo", "right")), 303);
    assert_eq!(browser.who(), "jo 0");
    *store.broken.lock().unwrap() = false;
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(browser.who(), "jo 0");
    let rows = store.rows.lock().unwrap();
    assert!(rows.values().any(|row| row.contains("jo")) && !rows.contains_key(&vec![1; 32]), "{rows:?}");
}
