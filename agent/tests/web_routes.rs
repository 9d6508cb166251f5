//! Where requests go: redirects, trimmed paths, bodies by route, methods, CORS and the fields of every response.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;
use std::path::Path;

use ioto::config::{Invocation, Route, Web, load};
use ioto::web::{Exchange, Server};
use web_support::{Dir, Running, body, field, get, read_to_close, server, settings, start, status};

/// The settings that a `web.json5` says.
fn read(text: &str) -> Web {
    let dir = Dir::new();
    fs::write(dir.0.join("web.json5"), text).unwrap();
    let variable = ("IOTO_DIRECTORIES_SHARE".to_owned(), dir.0.display().to_string());
    let invocation =
        Invocation { config_dir: Some(dir.0.clone()), environment: vec![variable], ..Invocation::default() };
    load(&invocation).unwrap_or_else(|problems| panic!("{problems}")).config.web
}

/// A server with the settings of a `web.json5`, on a free port.
fn with(text: &str) -> (Running, Dir) {
    start(|settings| {
        let (documents, timeouts) = (settings.documents.clone(), settings.timeouts.clone());
        *settings = Web { listen: vec![], documents, timeouts, ..read(text) };
    })
}

/// What is wrong with a `web.json5`.
fn problems(text: &str) -> String {
    let dir = Dir::new();
    fs::write(dir.0.join("web.json5"), text).unwrap();
    let invocation = Invocation { config_dir: Some(dir.0.clone()), ..Invocation::default() };
    load(&invocation).expect_err("it is refused").to_string()
}

fn ask(server: &Running, line: &str, fields: &str) -> String {
    server.talk(format!("{line} HTTP/1.1\r\nHost: dev.local:8080\r\nConnection: close\r\n{fields}\r\n"))
}

fn location(response: &str) -> (u16, String) {
    (status(response), field(response, "location").unwrap_or_default())
}

#[test]
fn what_cannot_be_a_redirect_is_refused_with_its_place() {
    for (text, expected) in [
        ("{redirect: [{from: '/a/*', to: '/a/b/*'}]}", "in a circle"),
        ("{redirect: [{from: '/a', to: '/b'}, {from: '/b', to: '/a'}]}", "in a circle"),
        ("{redirect: [{from: '/a'}]}", "needs to say where"),
        ("{redirect: [{from: '/a', to: 'ftp://x'}]}", "web.redirect[0].to: has a bad path"),
        ("{redirect: [{from: '/a', to: '/b c'}]}", "must be percent-encoded"),
        ("{redirect: [{from: '/a', to: '/b', status: 200}]}", "expected 301, 302, 303, 307 or 308"),
        ("{redirect: ['/a']}", "expected an object"),
        ("{redirect: [{form: '/a', to: '/b'}]}", "unknown key"),
        ("{routes: [{match: '/a/', redirect: '/a/b'}]}", "the route 0 leads back"),
        ("{routes: [{match: '/a', redirect: '/b'}, {match: '/b', redirect: '/a'}]}", "leads back"),
        ("{routes: [{redirect: 'login'}]}", "has a bad path"),
        ("{routes: [{trim: 'app'}]}", "expected the front of a path"),
        ("{routes: [{stream: 'yes'}]}", "expected true or false"),
        ("{name: 'a b'}", "expected a host"),
        ("{name: 'http://h/x'}", "expected a host"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn redirects_are_followed_before_routes_and_keep_what_they_do_not_say() {
    let (server, _dir) = with(
        "{redirect: [
            {from: '/old', to: '/new', status: 308},
            {from: '/tree/*', to: '/wood/*', status: 302},
            {from: '/asked?x=1', to: '/answered?y=2', status: 303},
            {from: '//old.local', to: '//new.local/'},
            {from: '//other.local:81/', to: 'https://elsewhere.example:444', status: 307},
            {from: '/secure', to: 'https://'},
            {from: '/page', to: '/#/login'},
            {from: '/here', to: '/here'},
            {from: '//all.local', to: '/closed'},
        ], routes: [{match: '/show/', handler: 'action'}]}",
    );
    let on = |host: &str, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        location(&server.talk(request))
    };
    for (host, target, expected) in [
        ("h", "/old", (308, "/new")),
        ("h", "/old?a=b&c", (308, "/new?a=b&c")),
        ("h", "/%6fld", (308, "/new")),
        ("h", "/tree/a%20b/c?d", (302, "/wood/a%20b/c?d")),
        ("h", "/tree//evil.example", (302, "/wood/evil.example")),
        ("h", "/asked?x=1", (303, "/answered?y=2")),
        ("OLD.local:8080", "/any", (301, "http://new.local/")),
        ("other.local:81", "/", (307, "https://elsewhere.example:444/")),
        ("h:8080", "/secure?q", (301, "https://h/secure?q")),
        ("[::1]:8080", "/secure", (301, "https://[::1]/secure")),
        ("h", "http://absolute.local:81/secure", (301, "https://absolute.local/secure")),
        ("h", "/page", (301, "/#/login")),
    ] {
        let expected = (expected.0, expected.1.to_owned());
        assert_eq!(on(host, target), expected, "{host} {target}");
    }
    assert_eq!(on("other.local", "/").0, 404);
    // These lead where the request is already.
    assert_eq!((on("h", "/here").0, on("all.local", "/closed").0), (404, 404));
    assert_eq!(on("all.local", "/any"), (301, "/closed".to_owned()));
    assert_eq!(on("h", "/asked?x=2").0, 404);
    assert_eq!(status(&get(&server, "/show/x", "")), 200);
    let post = ask(&server, "POST /old", "Content-Length: 2\r\n");
    assert_eq!(location(&post), (308, "/new".to_owned()));
    let nameless = server.talk("GET /secure HTTP/1.0\r\n\r\n");
    assert_eq!(status(&nameless), 400);
    assert_eq!(status(&server.talk("GET /old HTTP/1.0\r\n\r\n")), 308);
}

#[test]
fn behind_a_socket_of_another_server_no_scheme_is_redirected() {
    let dir = Dir::new();
    let settings =
        Web { documents: dir.0.clone(), listen: vec![], ..read("{redirect: [{from: 'http://', to: 'https://'}]}") };
    let socket = dir.0.join("web.sock");
    let server = server(settings).listen(&format!("unix:{}", socket.display())).unwrap();
    let _running = Running::start(server);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_close(&mut stream).ends_with("hello\n"));
}

#[test]
fn a_redirect_never_becomes_the_name_of_a_host() {
    let (server, _dir) = with("{redirect: [{from: '/a/*', to: '/*'}], routes: [{match: '', handler: 'action'}]}");
    for target in ["/a//evil.example/x", "/a///evil.example/x"] {
        assert_eq!(location(&ask(&server, &format!("GET {target}"), "")).1, "/evil.example/x", "{target}");
    }
    let split = ask(&server, "GET /a/x%0d%0aSet-Cookie:%20y", "");
    assert_eq!((status(&split), field(&split, "set-cookie")), (400, None));
}

#[test]
fn the_name_of_the_server_stands_in_its_redirects() {
    let text = "{name: 'device.example.com', listen: ['https://:8443'], redirect: [{from: '/s', to: 'https://'}],
        routes: [{match: '/go', redirect: '/there'}, {match: ''}]}";
    let dir = Dir::new();
    fs::create_dir(dir.0.join("sub")).unwrap();
    let read = read(text);
    assert_eq!(read.auth.realm, "device.example.com");
    let settings = Web { documents: dir.0.clone(), listen: vec![], ..read };
    let server = Running::start(server(settings).listen("http://127.0.0.1:0").unwrap());
    for (path, expected) in [
        ("/go?x", "http://device.example.com/there?x"),
        ("/sub?x", "http://device.example.com/sub/?x"),
        ("/s", "https://device.example.com/s"),
    ] {
        assert_eq!(location(&ask(&server, &format!("GET {path}"), "")).1, expected);
    }
}

#[test]
fn a_route_sends_all_requests_elsewhere() {
    let (server, _dir) = with(
        "{routes: [{match: '/old/', redirect: '/new/?v=2'}, {match: '/out', redirect: 'https://x.example/y', methods: ['GET']},
        {match: '', handler: 'action'}]}",
    );
    assert_eq!(location(&ask(&server, "GET /old/a?b", "")), (302, "/new/?v=2".to_owned()));
    assert_eq!(location(&ask(&server, "POST /out?b", "")), (302, "https://x.example/y?b".to_owned()));
    let head = ask(&server, "HEAD /out", "");
    assert_eq!((location(&head), body(&head)), ((302, "https://x.example/y".to_owned()), ""));
}

#[test]
#[cfg(feature = "users")]
fn a_visitor_is_sent_to_the_login_and_a_program_is_told() {
    let digest = "SHA256:49c1d3d6a5a6b2c2d7f3b3f5dd0f4a8ea9b9d3a1c5a9d1f6a2a0f7a9b4d8e1c3";
    let (server, dir) = with(&format!(
        "{{auth: {{roles: {{admin: []}}, users: {{jo: {{password: '{digest}', role: 'admin'}}}}, requireTlsForBasic: false}},
        routes: [{{match: '/admin/', role: 'admin', redirect: '/login.html'}}, {{match: ''}}]}}"
    ));
    fs::write(dir.0.join("login.html"), "log in").unwrap();
    assert_eq!(location(&ask(&server, "GET /admin/x?y=1", "")), (302, "/login.html?y=1".to_owned()));
    assert_eq!(status(&ask(&server, "HEAD /admin/", "")), 302);
    let post = ask(&server, "POST /admin/", "Content-Length: 0\r\n");
    assert_eq!((status(&post), field(&post, "www-authenticate").is_some()), (401, true));
    assert_eq!(status(&ask(&server, "GET /admin/", "Authorization: Basic am86d3Jvbmc=\r\n")), 401);
    assert_eq!(body(&ask(&server, "GET /login.html", "")), "log in");
}

#[test]
fn handlers_see_the_path_without_what_is_trimmed() {
    let (server, dir) = with(
        "{routes: [{match: '/app/', trim: '/app'}, {match: '/api/v1/', trim: '/api/v1', handler: 'action'}, {match: ''}]}",
    );
    fs::create_dir(dir.0.join("sub")).unwrap();
    fs::write(dir.0.join("sub/x.txt"), "x").unwrap();
    fs::write(dir.0.join("index.html"), "home").unwrap();
    fs::write(dir.0.join(".hidden"), "no").unwrap();
    assert_eq!(body(&ask(&server, "GET /app/sub/x.txt", "")), "x");
    assert_eq!(body(&ask(&server, "GET //app/.//sub/x.txt", "")), "x");
    assert_eq!(body(&ask(&server, "GET /app/", "")), "home");
    assert_eq!(location(&ask(&server, "GET /app/sub?q", "")), (301, "/app/sub/?q".to_owned()));
    for bad in ["/app/.hidden", "/app//.hidden", "/app/../sub/x.txt"] {
        assert!(matches!(status(&ask(&server, &format!("GET {bad}"), "")), 400 | 404), "{bad}");
    }
    let shown: serde_json::Value =
        serde_json::from_str(body(&ask(&server, "GET /api/v1/show/a%20b?name=n", ""))).unwrap();
    assert_eq!((&shown["path"], &shown["rest"], &shown["name"]), (&"/show/a b".into(), &"a b".into(), &"n".into()));
    assert_eq!(status(&ask(&server, "GET /api/v1/none", "")), 404);
}

#[test]
fn a_long_body_is_refused_before_it_is_read_unless_the_route_streams() {
    let (server, _dir) = with(
        "{limits: {body: '1k'}, routes: [{match: '/count', handler: 'action'}, {match: '/echo', handler: 'action', stream: true}]}",
    );
    let post = |path: &str, length: usize| {
        ask(&server, &format!("POST {path}"), &format!("Content-Length: {length}\r\n\r\n{}", "x".repeat(length)))
    };
    assert_eq!(status(&post("/count", 1024)), 200);
    assert_eq!(status(&post("/count", 1025)), 413);
    assert_eq!(status(&post("/echo", 100_000)), 200);
    // It is said before the body is sent.
    let asked = ask(&server, "POST /count", "Content-Length: 5000\r\nExpect: 100-continue\r\n");
    assert!(asked.starts_with("HTTP/1.1 413 "), "{asked}");
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let chunked = |chunks: usize| {
        let fields = format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n", chunk.repeat(chunks));
        status(&ask(&server, "POST /count", &fields))
    };
    assert_eq!((chunked(1), chunked(2), chunked(200)), (200, 413, 413));
}

#[test]
fn the_methods_of_the_configuration_are_those_of_actions_and_never_write_files() {
    let (server, dir) = with(
        "{headers: {'Access-Control-Allow-Methods': 'GET, POST, PUT, DELETE'},
        routes: [{match: '/show/', handler: 'action'}, {match: ''}]}",
    );
    fs::write(dir.0.join("x"), "x").unwrap();
    assert_eq!(status(&ask(&server, "PUT /show/", "")), 200);
    let patch = ask(&server, "PATCH /show/", "");
    assert_eq!(
        (status(&patch), field(&patch, "allow").unwrap().as_str()),
        (405, "GET, POST, PUT, DELETE, HEAD, OPTIONS")
    );
    assert_eq!(status(&ask(&server, "DELETE /x", "")), 405);
    assert_eq!(status(&ask(&server, "PUT /y", "Content-Length: 0\r\n")), 405);
    assert!(dir.0.join("x").exists() && !dir.0.join("y").exists());
    assert_eq!(status(&ask(&server, "HEAD /x", "")), 200);
}

#[test]
fn a_request_is_traced_without_its_secrets_where_a_route_lists_it() {
    let (server, _dir) = with("{routes: [{match: '/trace/', methods: ['GET', 'TRACE'], trim: '/trace'}, {match: ''}]}");
    let traced =
        ask(&server, "TRACE /trace/x?a=b", "Cookie: c=1\r\nAuthorization: Basic eA==\r\nX-XSRF-Token: t\r\nX-A: 1\r\n");
    assert_eq!((status(&traced), field(&traced, "content-type").unwrap().as_str()), (200, "message/http"));
    assert_eq!(
        body(&traced),
        "TRACE /trace/x?a=b HTTP/1.1\r\nHost: dev.local:8080\r\nConnection: close\r\nX-A: 1\r\n\r\n"
    );
    let refused = ask(&server, "TRACE /x", "");
    assert_eq!((status(&refused), field(&refused, "allow").unwrap().as_str()), (405, "GET, HEAD, OPTIONS"));
}

#[test]
#[cfg(feature = "users")]
fn a_page_of_another_site_may_ask_without_a_login_where_the_configuration_says_so() {
    let routes = "auth: {roles: {admin: []}}, routes: [{match: '/show/', handler: 'action', role: 'admin', methods: ['PUT']}, {match: ''}]";
    let (closed, _dir) = with(&format!("{{{routes}}}"));
    let question = "Origin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n";
    assert_eq!(status(&ask(&closed, "OPTIONS /show/x", question)), 403);
    let (open, _dir) = with(&format!(
        "{{headers: {{'Access-Control-Allow-Origin': 'https://app.example', 'Access-Control-Allow-Headers': 'Content-Type'}}, {routes}}}"
    ));
    for fields in [question, ""] {
        let answer = ask(&open, "OPTIONS /show/x", fields);
        assert_eq!((status(&answer), body(&answer)), (204, ""));
        for (name, value) in [
            ("allow", "PUT, OPTIONS"),
            ("access-control-allow-methods", "PUT, OPTIONS"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-headers", "Content-Type"),
        ] {
            assert_eq!(field(&answer, name).as_deref(), Some(value));
        }
    }
    // The question is answered; what it asks for still needs a login.
    assert!(matches!(status(&ask(&open, "PUT /show/x", "")), 401 | 403));
    let star = open.talk("OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&star), 204);
}

#[test]
fn browsers_are_told_to_be_careful_and_the_configuration_wins() {
    let careful = ["x-frame-options", "referrer-policy", "content-security-policy", "cross-origin-resource-policy"];
    let (server, _dir) = with("{}");
    let response = get(&server, "/none", "");
    assert!(careful.iter().all(|name| field(&response, name).is_some()), "{response}");
    for tls_alone in ["strict-transport-security", "cross-origin-opener-policy"] {
        assert_eq!(field(&response, tls_alone), None);
    }
    let (server, _dir) = with(
        "{headers: {'X-Frame-Options': null, 'Referrer-Policy': '', 'content-security-policy': \"default-src 'self'\",
        'Strict-Transport-Security': 'max-age=60', 'X-Mine': 'yes'}}",
    );
    let response = get(&server, "/none", "");
    let found = |name| field(&response, name);
    assert_eq!(
        (found("x-frame-options"), found("referrer-policy"), found("strict-transport-security")),
        (None, None, None)
    );
    assert_eq!(found("content-security-policy").as_deref(), Some("default-src 'self'"));
    assert_eq!(found("x-mine").as_deref(), Some("yes"));
    let (server, _dir) = with("{protect: false}");
    let response = get(&server, "/none", "");
    assert!(careful.iter().all(|name| field(&response, name).is_none()), "{response}");
    assert!(field(&response, "x-content-type-options").is_some());
}

#[test]
fn an_action_sends_a_file_with_conditions_and_ranges() {
    let dir = Dir::new();
    let file = dir.0.join("report.csv");
    fs::write(&file, "0123456789").unwrap();
    let (pipe, root) = (dir.0.join("pipe"), dir.0.clone());
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let sends = |path: &Path| {
        let path = path.to_owned();
        async move |exchange: &mut Exchange| exchange.send_file(&path).await
    };
    let routes = vec![Route { handler: "action".into(), ..Route::default() }];
    let server = Server::new(Web { routes, ..settings(root.clone()) })
        .action("/report", sends(&file))
        .action("/pipe", sends(&pipe))
        .action("/directory", sends(&root))
        .action("/none", sends(&root.join("none")))
        .action("/typed", {
            let file = file.clone();
            async move |exchange: &mut Exchange| {
                exchange.set_header("Content-Type", "text/x-mine")?;
                exchange.send_file(&file).await
            }
        });
    let server = Running::start(server.listen("http://127.0.0.1:0").unwrap());
    let whole = get(&server, "/report", "");
    assert_eq!((status(&whole), body(&whole)), (200, "0123456789"));
    assert_eq!(field(&whole, "content-type").as_deref(), Some("text/csv; charset=utf-8"));
    let tag = field(&whole, "etag").unwrap();
    assert_eq!(status(&get(&server, "/report", &format!("If-None-Match: {tag}\r\n"))), 304);
    let part = get(&server, "/report", "Range: bytes=2-4\r\n");
    assert_eq!((status(&part), body(&part)), (206, "234"));
    assert_eq!(status(&get(&server, "/report", "Range: bytes=99-\r\n")), 416);
    let head = ask(&server, "HEAD /report", "");
    assert_eq!((status(&head), body(&head), field(&head, "content-length").as_deref()), (200, "", Some("10")));
    for path in ["/pipe", "/directory", "/none"] {
        assert_eq!(status(&get(&server, path, "")), 404, "{path}");
    }
    let typed = get(&server, "/typed", "");
    assert_eq!(typed.to_ascii_lowercase().matches("content-type:").count(), 1, "{typed}");
    assert_eq!(field(&typed, "content-type").as_deref(), Some("text/x-mine"));
}

#[test]
fn variables_come_from_the_query_and_from_the_body_by_its_type() {
    let server = Server::new(settings(std::env::temp_dir())).action("/vars", async |exchange: &mut Exchange| {
        let variables = exchange.variables().await?;
        let text: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        exchange.send("text/plain", text.join(";")).await
    });
    let server = Running::start(server.listen("http://127.0.0.1:0").unwrap());
    let post = |kind: &str, text: &str| {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let response =
            ask(&server, "POST /vars?q=1&a=%2B", &format!("{kind}Content-Length: {}\r\n\r\n{text}", text.len()));
        (status(&response), body(&response).to_owned())
    };
    let good = |kind: &str, text: &str, expected: &str| assert_eq!(post(kind, text), (200, expected.to_owned()));
    good("application/x-www-form-urlencoded; charset=UTF-8", "a=b+c&d=", "a=b c;d=;q=1;a=+");
    good(
        "application/json; charset=utf-8",
        r#"{"a": "x", "n": 5, "t": true, "z": null, "l": [1]}"#,
        "a=x;n=5;t=true;l=[1];q=1;a=+",
    );
    good("Application/JSON", "{}", "q=1;a=+");
    good("text/plain", "a=b", "q=1;a=+");
    good("", "a=b", "q=1;a=+");
    assert_eq!(post("application/json", "[1]").0, 400);
    assert_eq!(post("application/json", "{").0, 400);
    assert_eq!(post("application/x-www-form-urlencoded; charset=latin1", "a=b").0, 415);
    assert_eq!(post("application/x-www-form-urlencoded", "a=%zz").0, 400);
}
