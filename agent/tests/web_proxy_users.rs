//! The gate before a program: who asks is told to it, and what proved it is not.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use ioto::config::{Auth, Roles, Route, Secret, User};
use ioto::web::auth::password::Hash;
use proxy_support::{Program, front, ok, route};
use web_support::{Dir, Running, body, field, get, status};

fn server(program: &Program) -> (Running, Dir) {
    let password = Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1("jo", "web", "secret")));
    let user = User { name: "jo".into(), password, ha1: vec![], role: "admin".into() };
    front(&program.address, |settings| {
        settings.auth = Auth {
            users: vec![user],
            roles: Roles::new(&[("admin".into(), vec!["view".into()])]).unwrap(),
            realm: "web".into(),
            require_tls: false,
            login: "/login".into(),
            logout: "/logout".into(),
            ..Auth::default()
        };
        settings.routes = vec![
            Route { role: "view".into(), ..route("/view/", &program.address) },
            Route { role: "other".into(), ..route("/other/", &program.address) },
            route("", &program.address),
        ];
    })
}

// jo:secret
const BASIC: &str = "Authorization: Basic am86c2VjcmV0\r\n";

#[test]
fn the_gate_stands_before_a_program_and_says_who_asks() {
    let program = Program::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: public, max-age=60\r\n\r\nok".to_vec()
    });
    let (server, _dir) = server(&program);
    let refused = get(&server, "/view/x", "X-Forwarded-User: jo\r\n");
    assert_eq!((status(&refused), program.requests()), (401, 0), "{refused}");
    assert_eq!((status(&get(&server, "/other/x", BASIC)), program.requests()), (403, 0));

    let answer = get(&server, "/view/x", &format!("{BASIC}X-Forwarded-User: root\r\nX-Forwarded-Role: root\r\n"));
    assert_eq!((status(&answer), body(&answer)), (200, "ok"), "{answer}");
    assert_eq!(field(&answer, "cache-control").as_deref(), Some("private"), "no cache gives it to another user");
    let head = program.last();
    assert_eq!(field(&head, "x-forwarded-user").as_deref(), Some("jo"));
    assert_eq!(field(&head, "x-forwarded-role").as_deref(), Some("admin"));
    assert!(field(&head, "authorization").is_none() && !head.contains("root"), "{head}");

    // Where the gate asks for nothing, a password is for the program.
    let answer = get(&server, "/open", BASIC);
    assert_eq!(field(&answer, "cache-control").as_deref(), Some("public, max-age=60"));
    let head = program.last();
    assert!(field(&head, "authorization").is_some() && field(&head, "x-forwarded-user").is_none(), "{head}");
}

#[test]
fn a_session_stays_at_the_gate() {
    let program = Program::answering(|head, _| {
        match head.starts_with("GET /view/steal") {
        true => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: -web-session-=mine\r\nSet-Cookie: a=2\r\nX-XSRF-TOKEN: mine\r\n\r\n"
            .to_vec(),
        false => ok("ok"),
    }
    });
    let (server, _dir) = server(&program);
    let login = server.talk(
        "POST /login HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n\
         {\"username\":\"jo\",\"password\":\"secret\"}",
    );
    assert_eq!(program.requests(), 0);
    let session = field(&login, "set-cookie").unwrap();
    let session = session.split(';').next().unwrap();
    let cookies = format!("Cookie: a=1; {session}; b=2\r\n");
    let answer = get(&server, "/view/steal", &cookies);
    assert_eq!(status(&answer), 200, "{answer}");
    let head = program.last();
    assert_eq!(field(&head, "cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(field(&head, "x-forwarded-user").as_deref(), Some("jo"));
    assert!(answer.contains("Set-Cookie: a=2") && !answer.contains("mine"), "{answer}");
    let token = field(&answer, "x-xsrf-token").unwrap();

    let post = |fields: &str| {
        server.talk(format!(
            "POST /view/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n{cookies}{fields}\r\n"
        ))
    };
    assert_eq!((status(&post("")), program.requests()), (403, 1));
    assert_eq!(status(&post(&format!("X-XSRF-TOKEN: {token}\r\n"))), 200);
    assert!(field(&program.last(), "x-xsrf-token").is_none());

    // A page of another site cannot use the session for a WebSocket.
    let ws = "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://evil\r\n";
    let answer = get(&server, "/view/ws", &format!("{cookies}{ws}"));
    assert_eq!((status(&answer), program.requests()), (403, 2), "{answer}");
}

#[test]
fn no_field_passes_for_one_that_the_server_says_itself() {
    let program = Program::answering(|_, _| ok("ok"));
    let (server, _dir) = server(&program);
    for name in [
        "X-Forwarded-User",
        "x-forwarded-USER",
        "X_Forwarded_User",
        "X-Forwarded_User",
        "X.Forwarded.User",
        "X-Forwarded-User~",
        "X-Forwarded-Anything",
        "Proxy",
        "X-Original-URL",
        "X-Rewrite-Url",
        "X-Real-IP",
        "Forwarded",
    ] {
        let answer = get(&server, "/open", &format!("{name}: evil\r\n{name}: evil\r\n"));
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(!program.last().contains("evil"), "{}", program.last());
        let answer = get(&server, "/view/x", &format!("{BASIC}{name}: evil\r\nConnection: {name}\r\n"));
        assert_eq!(status(&answer), 200, "{answer}");
        let head = program.last();
        assert!(field(&head, "x-forwarded-user").as_deref() == Some("jo") && !head.contains("evil"), "{head}");
    }
}

#[test]
fn a_browser_may_ask_about_a_guarded_program_without_a_login_and_the_program_is_not_asked() {
    let program = Program::answering(|_, _| ok("ok"));
    let (server, _dir) = front(&program.address, |settings| {
        settings.auth.roles = Roles::new(&[("admin".into(), vec![])]).unwrap();
        settings.headers = vec![("Access-Control-Allow-Origin".into(), "https://page".into())];
        settings.routes =
            vec![Route { role: "admin".into(), ..route("/app/", &program.address) }, route("", &program.address)];
    });
    let ask = |path: &str, fields: &str| {
        server.talk(format!("OPTIONS {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n"))
    };
    let answer = ask("/app/x", "Origin: https://page\r\nAccess-Control-Request-Method: PUT\r\n");
    assert_eq!((status(&answer), program.requests()), (204, 0), "{answer}");
    assert!(field(&answer, "access-control-allow-methods").unwrap().contains("PUT"), "{answer}");
    assert_eq!((status(&ask("/open", "Access-Control-Request-Method: PUT\r\n")), program.requests()), (200, 1));
}

#[test]
fn a_program_does_not_bind_browsers_to_tls_over_other_connections() {
    let program = Program::answering(|_, _| {
        b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=9\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let (server, _dir) = server(&program);
    let answer = get(&server, "/open", "");
    assert!(status(&answer) == 200 && field(&answer, "strict-transport-security").is_none(), "{answer}");
}

#[test]
fn no_field_names_another_method_where_a_route_lists_its_methods() {
    let program = Program::answering(|_, _| ok("ok"));
    let (server, _dir) = front(&program.address, |settings| {
        let listed = Route { methods: vec!["GET".into()], trim: "/get".into(), ..route("/get/", &program.address) };
        settings.routes = vec![listed, route("", &program.address)];
    });
    for name in ["X-HTTP-Method-Override", "x-http-method", "X-METHOD-OVERRIDE"] {
        get(&server, "/get/x", &format!("{name}: DELETE\r\n"));
        assert!(!program.last().contains("DELETE"), "{}", program.last());
        get(&server, "/x", &format!("{name}: DELETE\r\n"));
        assert!(program.last().contains("DELETE"), "{}", program.last());
    }
}
