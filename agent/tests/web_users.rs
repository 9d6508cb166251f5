//! Users and roles on real sockets, plain and TLS; curl is the client that we did not write.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use ioto::config::{Auth, AuthAlgorithm, AuthType, Roles, Route, Secret, User, Web};
use ioto::net::tls_server::server_config;
use ioto::web::auth::password::Hash;
use ioto::web::own_certificate;
use ioto::web::{Exchange, Server};
use web_support::{Dir, Running, body, curl, field, get, settings, status};

const REALM: &str = "the board";

fn user(name: &str, role: &str) -> User {
    let ha1 = |hash: Hash| Secret::new(hash.stored(&hash.ha1(name, REALM, "open sesame")));
    User { name: name.into(), password: ha1(Hash::Sha256), ha1: vec![ha1(Hash::Md5)], role: role.into() }
}

fn route(matches: &str, handler: &str, role: &str, auth_type: AuthType) -> Route {
    Route { matches: matches.into(), handler: handler.into(), role: role.into(), auth_type, ..Route::default() }
}

/// jo is an admin, mo a user; on plain HTTP and on TLS.
fn server(change: impl FnOnce(&mut Web)) -> (Running, String, Dir) {
    let dir = Dir::new();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let roles = [("admin".into(), names(&["user", "reboot"])), ("user".into(), names(&["view"]))];
    let mut web = settings(dir.0.clone());
    web.auth = Auth {
        users: vec![
            user("jo", "admin"),
            user("mo", "user"),
            User { password: Secret::new("BF1:1:2:3"), ..user("odd", "admin") },
        ],
        roles: Roles::new(&roles).unwrap(),
        realm: REALM.into(),
        login: "/login".into(),
        logout: "/logout".into(),
        ..Auth::default()
    };
    let md5 = AuthAlgorithm::Md5;
    web.routes = vec![
        route("/admin/", "file", "admin", AuthType::Basic),
        route("/view/", "action", "view", AuthType::Basic),
        route("/digest/", "action", "user", AuthType::Digest),
        Route { algorithm: md5, ..route("/md5/", "action", "reboot", AuthType::Digest) },
        route("/session/", "action", "user", AuthType::Session),
        route("/who", "action", "", AuthType::Basic),
        route("", "file", "", AuthType::Basic),
    ];
    change(&mut web);
    fs::create_dir(dir.0.join("admin")).unwrap();
    fs::write(dir.0.join("admin/page.html"), "for admins").unwrap();
    fs::write(dir.0.join("page.html"), "for all").unwrap();
    let (certificate, key) = own_certificate(&dir.0.join(".certs"), &["localhost".to_owned()]).unwrap();
    let tls = server_config(&certificate, &key).unwrap();
    let mut server =
        Server::new(web).tls(tls).listen("http://127.0.0.1:0").unwrap().listen("https://127.0.0.1:0").unwrap();
    for prefix in ["/view", "/digest", "/md5", "/session", "/who"] {
        server = server.action(prefix, async |exchange: &mut Exchange| {
            let text = format!(
                "{} reboot={} view={}",
                exchange.user().unwrap_or("nobody"),
                exchange.can("reboot"),
                exchange.can("view")
            );
            exchange.send("text/plain", text).await
        });
    }
    let running = Running::start(server);
    let secure = format!("https://127.0.0.1:{}", running.addresses[1].socket().unwrap().port());
    (running, secure, dir)
}

#[test]
fn basic_opens_files_and_actions_to_those_who_may() {
    let (server, secure, _dir) = server(|_| ());
    let ask = |user: &str, path: &str| {
        curl(&["-k", "-w", " %{http_code}", "--basic", "-u", user, &format!("{secure}{path}")])
    };
    assert_eq!(ask("jo:open sesame", "/admin/page.html"), "for admins 200");
    assert_eq!(ask("jo:open sesame", "/view/x"), "jo reboot=true view=true 200");
    assert_eq!(ask("mo:open sesame", "/view/x"), "mo reboot=false view=true 200");
    assert!(ask("mo:open sesame", "/admin/page.html").ends_with(" 403"));
    assert!(ask("jo:open Sesame", "/admin/page.html").ends_with(" 401"));
    assert!(ask("nobody:open sesame", "/admin/page.html").ends_with(" 401"));
    assert!(ask("odd:open sesame", "/admin/page.html").ends_with(" 401"));
    assert_eq!(curl(&["-k", &format!("{secure}/page.html")]), "for all");
    assert_eq!(curl(&["-k", &format!("{secure}/who")]), "nobody reboot=false view=false");
    drop(server);
}

#[test]
fn there_is_always_an_answer() {
    let (server, secure, _dir) = server(|_| ());
    let plain = get(&server, "/admin/page.html", "");
    assert_eq!(status(&plain), 403);
    assert!(body(&plain).contains("https"), "{plain}");
    let head = curl(&["-k", "-I", &format!("{secure}/admin/page.html")]);
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(field(&head, "www-authenticate").unwrap(), "Basic realm=\"the board\", charset=\"UTF-8\"");
    let session = get(&server, "/session/x", "");
    assert_eq!((status(&session), field(&session, "www-authenticate").is_some()), (401, true));
    assert_eq!(status(&get(&server, "/session/x", "Authorization: Basic x\r\nAuthorization: Basic y\r\n")), 400);
    // Also before a body, and the connection goes on.
    let posted = server.talk(
        "POST /session/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /page.html HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert!(status(&posted) == 401 && posted.ends_with("for all"), "{posted}");
}

#[test]
fn guessing_is_slowed_down() {
    let (_server, secure, _dir) = server(|_| ());
    let ask = |user: &str, from: &str| {
        let url = format!("{secure}/admin/page.html");
        curl(&[
            "-k",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %header{retry-after}",
            "--interface",
            from,
            "-u",
            user,
            &url,
        ])
    };
    assert_eq!(ask("jo:open sesame", "127.0.0.1"), "200 ");
    for _ in 0..5 {
        assert_eq!(ask("jo:wrong", "127.0.0.2"), "401 ");
    }
    assert!(ask("jo:open sesame", "127.0.0.2").starts_with("429 "));
    assert!(ask("mo:open sesame", "127.0.0.2").starts_with("429 "));
    // Who is known at his address is not locked out, and nobody else is.
    assert_eq!(ask("jo:open sesame", "127.0.0.1"), "200 ");
    assert!(ask("mo:open sesame", "127.0.0.3").starts_with("403 "));
}

#[test]
fn another_site_cannot_use_a_password_that_the_browser_keeps() {
    let (_server, secure, _dir) = server(|_| ());
    let post = |fields: &[&str]| {
        let url = format!("{secure}/view/x");
        curl(
            &[&["-k", "-o", "/dev/null", "-w", "%{http_code}", "-u", "jo:open sesame", "-d", "x", &url][..], fields]
                .concat(),
        )
    };
    assert_eq!(post(&[]), "200");
    assert_eq!(post(&["-H", &format!("Origin: {secure}")]), "200");
    assert_eq!(post(&["-H", "Origin: https://evil.example"]), "403");
    assert_eq!(post(&["-H", "Sec-Fetch-Site: cross-site"]), "403");
}

#[test]
fn the_entry_that_the_program_makes_lets_its_user_in() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ioto"))
        .args(["password", "ann", "--role", "admin", "--realm", REALM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(b"p\xc3\xa4ss\n").unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    let dir = Dir::new();
    let entry = String::from_utf8(output.stdout).unwrap();
    let text =
        format!("{{auth: {{realm: '{REALM}', roles: {{admin: []}}, users: {{{entry}}}}}, listen: ['http://:1']}}");
    fs::write(dir.0.join("web.json5"), text).unwrap();
    let invocation = ioto::config::Invocation {
        config_dir: Some(dir.0.clone()),
        state_dir: Some(dir.0.clone()),
        ..Default::default()
    };
    let users = ioto::config::load(&invocation).unwrap().config.web.auth.users;
    assert_eq!(users[0].role, "admin");
    let (_server, secure, _dir) = server(|web| web.auth.users = users);
    let code = |password: &str, way: &str, path: &str| {
        let user = format!("ann:{password}");
        curl(&["-k", "-o", "/dev/null", "-w", "%{http_code}", way, "-u", &user, &format!("{secure}{path}")])
    };
    assert_eq!(code("p\u{e4}ss", "--basic", "/admin/page.html"), "200");
    assert_eq!(code("pass", "--basic", "/admin/page.html"), "401");
}

#[test]
fn digest_lets_in_over_plain_http_with_both_algorithms() {
    let (server, secure, _dir) = server(|_| ());
    let plain = format!("http://{}", server.address());
    for (base, path, user, expected) in [
        (&plain, "/digest/x?a=b&c", "jo:open sesame", "jo reboot=true view=true 200"),
        (&secure, "/digest/x", "mo:open sesame", "mo reboot=false view=true 200"),
        (&plain, "/md5/x", "jo:open sesame", "jo reboot=true view=true 200"),
        (&plain, "/md5/x", "mo:open sesame", "403 Forbidden: this user may not do that\n 403"),
        (&plain, "/digest/x", "jo:open Sesame", "401 Unauthorized: log in\n 401"),
        (&plain, "/digest/x", "nobody:open sesame", "401 Unauthorized: log in\n 401"),
    ] {
        let url = format!("{base}{path}");
        assert_eq!(curl(&["-k", "-w", " %{http_code}", "--digest", "-u", user, &url]), expected, "{user} {path}");
    }
    let posted = curl(&["--digest", "-u", "jo:open sesame", "-d", "x=y", &format!("{plain}/digest/x")]);
    assert_eq!(posted, "jo reboot=true view=true");
}

/// The field `Authorization` for a GET of `uri`.
fn digest(nonce: &str, count: u32, uri: &str, password: &str) -> String {
    let hash = Hash::Sha256;
    let (ha1, ha2) = (hash.ha1("jo", REALM, password), hash.of(&format!("GET:{uri}")));
    let response = hash.of(&format!("{ha1}:{nonce}:{count:08x}:abc:auth:{ha2}"));
    format!(
        "Authorization: Digest username=\"jo\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=SHA-256, \
         qop=auth, nc={count:08x}, cnonce=\"abc\", response=\"{response}\"\r\n"
    )
}

fn nonce(response: &str) -> String {
    let challenge = field(response, "www-authenticate").unwrap();
    challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn a_digest_is_good_once_and_for_its_request_alone() {
    let (server, _, _dir) = server(|web| web.auth.nonce_time = std::time::Duration::from_secs(2));
    let ask = |uri: &str, fields: &str| get(&server, uri, fields);
    let fresh = nonce(&ask("/digest/x", ""));
    assert_ne!(nonce(&ask("/digest/x", "")), fresh);
    let first = digest(&fresh, 1, "/digest/x", "open sesame");
    assert_eq!(status(&ask("/digest/x", &first)), 200);
    let again = ask("/digest/x", &first);
    assert_eq!(status(&again), 401);
    assert!(field(&again, "www-authenticate").unwrap().contains("stale=true"));
    assert_eq!(status(&ask("/digest/x", &digest(&fresh, 2, "/digest/x", "open sesame"))), 200);
    let other = ask("/digest/y", &digest(&fresh, 3, "/digest/x", "open sesame"));
    assert!(status(&other) == 401 && !other.contains("stale"));
    let wrong = ask("/digest/x", &digest(&fresh, 3, "/digest/x", "open Sesame"));
    assert!(status(&wrong) == 401 && !wrong.contains("stale"));
    let forged = ask("/digest/x", &digest("AAAA", 1, "/digest/x", "open sesame"));
    assert!(status(&forged) == 401 && forged.contains("stale=true"));
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert!(ask("/digest/x", &digest(&fresh, 4, "/digest/x", "open sesame")).contains("stale=true"));
}

#[test]
fn a_login_begins_a_session_and_a_logout_ends_it() {
    let (_server, secure, dir) = server(|_| ());
    let jar = dir.0.join(".jar").to_string_lossy().into_owned();
    let ask = |arguments: &[&str], path: &str| {
        let url = format!("{secure}{path}");
        curl(&[&["-k", "-i", "-c", &jar, "-b", &jar, &url][..], arguments].concat())
    };
    let json = ["-H", "Content-Type: application/json", "-d", "{\"username\": \"jo\", \"password\": \"open sesame\"}"];
    assert_eq!(status(&ask(&[], "/session/x")), 401);
    let wrong = ask(&["-d", "username=jo&password=x"], "/login");
    assert!(status(&wrong) == 401 && field(&wrong, "www-authenticate").is_some(), "{wrong}");
    assert!(field(&wrong, "set-cookie").is_none());

    let first = ask(&json, "/login");
    let cookie = field(&first, "set-cookie").unwrap();
    assert!(
        cookie.starts_with("-web-session-=") && cookie.ends_with("; Path=/; SameSite=Lax; HttpOnly; Secure"),
        "{cookie}"
    );
    let value: serde_json::Value = serde_json::from_str(body(&first)).unwrap();
    assert_eq!((&value["user"], &value["role"]), (&"jo".into(), &"admin".into()));
    let shown = ask(&[], "/session/x");
    assert_eq!(body(&shown), "jo reboot=true view=true");
    assert_eq!(field(&shown, "x-xsrf-token").unwrap(), value["xsrf"].as_str().unwrap());
    assert_eq!(body(&ask(&[], "/admin/page.html")), "for admins");
    assert_eq!(body(&ask(&[], "/who")), "jo reboot=true view=true");

    // What changes something needs the token, from a page of this site.
    let token = format!("X-XSRF-TOKEN: {}", value["xsrf"].as_str().unwrap());
    assert_eq!(status(&ask(&["-d", "x"], "/session/x")), 403);
    assert_eq!(status(&ask(&["-d", "x", "-H", "X-XSRF-TOKEN: x"], "/session/x")), 403);
    assert_eq!(status(&ask(&["-d", "x", "-H", &token], "/session/x")), 200);
    assert_eq!(status(&ask(&["-d", "x", "-H", &token, "-H", "Origin: https://evil"], "/session/x")), 403);
    assert_eq!(body(&ask(&["-d", "x"], "/who")), "nobody reboot=false view=false");

    // Another login, by a form, has another id; the old one is worth nothing.
    let second = ask(&["-d", "username=mo&password=open+sesame"], "/login");
    assert_eq!((status(&second), field(&second, "location").unwrap()), (303, "/".to_owned()));
    assert_ne!(field(&second, "set-cookie").unwrap(), cookie);
    let old = cookie.split(';').next().unwrap();
    assert_eq!(status(&curl(&["-k", "-i", "-H", &format!("Cookie: {old}"), &format!("{secure}/session/x")])), 401);
    assert_eq!(body(&ask(&[], "/session/x")), "mo reboot=false view=true");
    assert_eq!(status(&ask(&[], "/admin/page.html")), 403);

    let kept = fs::read_to_string(&jar).unwrap();
    assert_eq!(status(&ask(&["-X", "POST"], "/logout")), 204);
    assert_eq!(status(&ask(&[], "/session/x")), 401);
    fs::write(&jar, kept).unwrap();
    assert_eq!(status(&ask(&[], "/session/x")), 401);
}

#[test]
fn a_login_is_refused_without_tls_from_other_sites_and_to_who_guesses() {
    let (server, secure, _dir) = server(|_| ());
    let login = |fields: &[&str], password: &str| {
        let (url, form) = (format!("{secure}/login"), format!("username=jo&password={password}"));
        curl(&[&["-k", "-i", "-d", &form, &url][..], fields].concat())
    };
    let plain = "POST /login HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&server.talk(plain)), 403);
    assert_eq!(status(&login(&["-H", "Origin: https://evil.example"], "open+sesame")), 403);
    assert_eq!(status(&login(&["-G"], "x")), 405);
    assert_eq!(status(&login(&["-H", "Content-Type: application/json"], "x")), 400);
    for _ in 0..5 {
        assert_eq!(status(&login(&[], "wrong")), 401);
    }
    let refused = login(&[], "open+sesame");
    assert_eq!(status(&refused), 429);
    assert!(field(&refused, "retry-after").unwrap().parse::<u32>().unwrap() >= 1);
}

#[test]
fn a_token_opens_what_its_role_may_until_it_is_removed() {
    let output = Command::new(env!("CARGO_BIN_EXE_ioto"))
        .args(["password", "token", "meter", "--role", "user"])
        .output()
        .unwrap();
    let token = String::from_utf8(output.stderr).unwrap().trim().rsplit(' ').next().unwrap().to_owned();
    let line = String::from_utf8(output.stdout).unwrap();
    let hash = line.split('"').nth(3).unwrap();
    assert!(line.starts_with("\"meter\": {token: \"SHA256:") && !line.contains(&token), "{line}");
    let meter = ioto::config::Token { name: "meter".into(), hash: Secret::new(hash), role: "user".into() };
    let (server, secure, _dir) = server(|web| web.auth.tokens = vec![meter]);
    let ask = |token: &str, path: &str| {
        let field = format!("Authorization: Bearer {token}");
        curl(&[
            "-k",
            "-w",
            " %{http_code}",
            "-H",
            &field,
            "-H",
            "Origin: https://app",
            "-d",
            "x",
            &format!("{secure}{path}"),
        ])
    };
    assert_eq!(ask(&token, "/view/x"), "meter reboot=false view=true 200");
    assert_eq!(ask(&token, "/digest/x"), "meter reboot=false view=true 200");
    assert!(ask(&token, "/md5/x").ends_with(" 403"));
    assert!(ask(&token[1..], "/view/x").ends_with(" 401") && ask("", "/view/x").ends_with(" 401"));
    assert_eq!(status(&get(&server, "/view/x", &format!("Authorization: Bearer {token}\r\n"))), 403);
}
