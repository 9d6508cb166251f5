//! Paths that a handler could read in another way than the routes, whose roles would be for nothing then.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use ioto::config::{Roles, Route};
use ioto::web::{Exchange, Server};
use proxy_support::{Program, front, ok, route};
use web_support::{Dir, Running, get, settings, status};

/// Other ways to write `/app/admin/x`.
const WAYS: [&str; 12] = [
    "/app//admin/x",
    "//app/admin/x",
    "/app/admin//x",
    "/app/%2fadmin/x",
    "/app/;a=b/admin/x",
    "/app/admin;a/x",
    "/app;/admin/x",
    "/app/y/..;/admin/x",
    "/app/.;/admin/x",
    "/app/%61dmin%3ba/x",
    "/app/y/..%3b/admin/x",
    "/app///;;//admin/x",
];

#[test]
fn no_way_to_write_a_path_leads_around_the_role_of_a_program() {
    for trim in ["", "/app", "/app/"] {
        let program = Program::answering(|_, _| ok("in"));
        let (server, _dir) = front(&program.address, |settings| {
            settings.auth.roles = Roles::new(&[("admin".into(), vec![])]).unwrap();
            let to = |matches: &str, role: &str| Route {
                role: role.into(),
                trim: trim.into(),
                ..route(matches, &program.address)
            };
            settings.routes = vec![to("/app/admin/", "admin"), to("", "")];
        });
        for way in WAYS.iter().chain(&["/app/admin/x"]) {
            let answer = get(&server, way, "");
            assert!(matches!(status(&answer), 400 | 401 | 403), "{trim} {way} {answer}");
        }
        assert_eq!(program.requests(), 0);
        // Within one route they are the program's business.
        for (number, way) in ["/app/to//http://h/", "/app/x;a=b/y", "/app/to//admin/x"].iter().enumerate() {
            assert_eq!((status(&get(&server, way, "")), program.requests()), (200, number + 1), "{way}");
        }
    }
}

#[test]
fn no_way_to_write_a_path_leads_around_the_role_of_an_action() {
    let dir = Dir::new();
    let mut web = settings(dir.0.clone());
    web.auth.roles = Roles::new(&[("admin".into(), vec![])]).unwrap();
    let to = |matches: &str, role: &str| Route {
        matches: matches.into(),
        handler: "action".into(),
        role: role.into(),
        ..Route::default()
    };
    web.routes = vec![to("/app/admin/", "admin"), to("", "")];
    let show = async |exchange: &mut Exchange| exchange.send("text/plain", exchange.rest()).await;
    let server = Server::new(web).action("/app/", show);
    let server = Running::start(server.listen("http://127.0.0.1:0").unwrap());
    for way in WAYS {
        let answer = get(&server, way, "");
        assert!(status(&answer) >= 400, "{way} {answer}");
    }
    assert_eq!(status(&get(&server, "/app/x;y//z", "")), 200);
}
