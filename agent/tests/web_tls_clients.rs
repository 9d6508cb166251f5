//! Client certificates: which are let in, and which user they are. curl and openssl show them.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

#[path = "web_support/pki.rs"]
mod pki;
mod web_support;

use std::process::Command;

use ioto::config::{Auth, AuthType, CertificateUser, Roles, Route, Secret, User, Web};
use ioto::net::tls_server::TlsServer;
use ioto::web::auth::password::Hash;
use ioto::web::{Exchange, Server};
use pki::{Authority, s_client};
use web_support::{Dir, Running, settings};

const CLIENT: &str = "extendedKeyUsage=clientAuth";

struct Site {
    server: Running,
    port: u16,
    authority: Authority,
}

fn user(name: &str, role: &str) -> User {
    let password = Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1(name, "web", "open sesame")));
    User { name: name.into(), password, ha1: vec![], role: role.into() }
}

fn route(matches: &str, role: &str, auth_type: AuthType) -> Route {
    let handler = "action".into();
    Route { matches: matches.into(), handler, role: role.into(), auth_type, ..Route::default() }
}

/// jo is an admin, mo@example.com and mo.example are users.
fn site(tls: impl FnOnce(TlsServer, &Authority) -> TlsServer, change: impl FnOnce(&mut Auth, &Authority)) -> Site {
    let authority = Authority::new("ca");
    let (certificate, key) = authority.certificate("localhost", "/CN=localhost", "subjectAltName=DNS:localhost");
    let tls = tls(TlsServer::new().identity(certificate, key).clients(authority.file("ca.crt")), &authority);
    let roles = [("admin".into(), vec!["user".into()]), ("user".into(), vec![])];
    let mut auth = Auth {
        users: vec![user("jo", "admin"), user("mo@example.com", "user"), user("mo.example", "user")],
        roles: Roles::new(&roles).unwrap(),
        login: "/login".into(),
        logout: "/logout".into(),
        ..Auth::default()
    };
    change(&mut auth, &authority);
    let routes = vec![
        route("/admin", "admin", AuthType::Basic),
        route("/user", "user", AuthType::Certificate),
        route("/digest", "user", AuthType::Digest),
        route("/open", "", AuthType::Basic),
    ];
    let mut server = Server::new(Web { auth, routes, ..settings("/nowhere".into()) }).tls(tls.build().unwrap());
    for path in ["/admin", "/user", "/digest", "/open"] {
        server = server.action(path, async |exchange: &mut Exchange| {
            let certificate =
                exchange.certificate().map_or("none", |holder| holder.names().next().unwrap_or("nameless"));
            let text = format!("{} {certificate}", exchange.user().unwrap_or("nobody"));
            exchange.send("text/plain", text).await
        });
    }
    let server = Running::start(server.listen("https://127.0.0.1:0").unwrap());
    let port = server.address().port();
    Site { server, port, authority }
}

impl Site {
    /// What curl gets with that certificate: body and status, or its exit code.
    fn ask(&self, name: &str, path: &str, arguments: &[&str]) -> String {
        let url = format!("https://localhost:{}{path}", self.port);
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "-w", " %{http_code}", "--cacert"]).arg(self.authority.file("ca.crt"));
        if !name.is_empty() {
            let (certificate, key) = self.authority.pair(name);
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output = command.args(arguments).arg(url).output().unwrap();
        match output.status.code() {
            Some(0) => String::from_utf8_lossy(&output.stdout).replace('\n', ""),
            code => format!("failed {}", code.unwrap()),
        }
    }
}

#[test]
fn a_certificate_of_the_authority_is_wanted_where_it_is_required() {
    let site = site(|tls, _| tls, |_, _| ());
    let ca = &site.authority;
    let other = Authority::new("other");
    ca.certificate("jo", "/CN=jo", CLIENT);
    ca.certificate("plain", "/CN=plain", "basicConstraints=CA:FALSE");
    ca.certificate("server", "/CN=jo", "extendedKeyUsage=serverAuth");
    ca.certificate_until("late", "/CN=jo", CLIENT, "ec -pkeyopt ec_paramgen_curve:P-256", 2021);
    ca.certificate_until("rsa", "/CN=jo", CLIENT, "rsa:2048", 2049);
    let (certificate, key) = other.certificate("jo", "/CN=jo", CLIENT);
    for (from, to) in [(certificate, "foreign.crt"), (key, "foreign.key")] {
        std::fs::copy(from, ca.file(to)).unwrap();
    }
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let ask = |name: &str| {
            site.ask(name, "/open", &[version.split('=').next().unwrap(), version.split('=').nth(1).unwrap_or("-s")])
        };
        assert_eq!(ask("jo"), "jo jo 200");
        assert_eq!(ask("rsa"), "jo jo 200");
        assert_eq!(ask("plain"), "nobody plain 200");
        for name in ["", "server", "late", "foreign"] {
            assert!(ask(name).starts_with("failed "), "{name}");
        }
    }
    assert!(site.ask("jo", "/open", &["--http1.0"]).ends_with(" 200"));
}

#[test]
fn where_it_is_optional_a_bad_certificate_is_worse_than_none() {
    let site = site(|tls, _| tls.clients_optional(true), |_, _| ());
    let ca = &site.authority;
    ca.certificate("jo", "/CN=jo", CLIENT);
    ca.certificate_until("late", "/CN=jo", CLIENT, "ec -pkeyopt ec_paramgen_curve:P-256", 2021);
    assert_eq!(site.ask("", "/open", &[]), "nobody none 200");
    assert_eq!(site.ask("jo", "/open", &[]), "jo jo 200");
    assert!(site.ask("late", "/open", &[]).starts_with("failed "));
    // Without one, users still have their passwords.
    assert!(site.ask("", "/admin", &[]).ends_with(" 401"));
    assert!(site.ask("", "/user", &[]).ends_with(" 403"));
    assert_eq!(site.ask("", "/admin", &["-u", "jo:open sesame"]), "jo none 200");
}

#[test]
fn revoked_certificates_and_those_without_a_list_are_refused() {
    let site = site(
        |tls, ca| {
            ca.certificate("jo", "/CN=jo", CLIENT);
            ca.certificate("lost", "/CN=jo", CLIENT);
            ca.revoke(&["lost"]);
            tls.revoked(ca.file("ca.crl"))
        },
        |_, _| (),
    );
    assert_eq!(site.ask("jo", "/open", &[]), "jo jo 200");
    assert!(site.ask("lost", "/open", &[]).starts_with("failed "));

    let other = Authority::new("other");
    other.revoke(&[]);
    let ca = &site.authority;
    let (certificate, key) = ca.pair("localhost");
    let tls = TlsServer::new().identity(certificate, key).clients(ca.file("ca.crt")).revoked(other.file("ca.crl"));
    site.server.handle.set_tls(tls.build().unwrap());
    assert!(site.ask("jo", "/open", &[]).starts_with("failed "));
}

#[test]
fn a_certificate_is_the_user_whose_name_it_bears() {
    let site = site(|tls, _| tls.clients_optional(true), |_, _| ());
    let ca = &site.authority;
    ca.certificate("jo", "/CN=jo", CLIENT);
    ca.certificate("mail", "/O=Plant", &format!("{CLIENT}\nsubjectAltName=email:mo@example.com"));
    ca.certificate("host", "/CN=unknown", &format!("{CLIENT}\nsubjectAltName=DNS:x.example,DNS:mo.example"));
    ca.certificate("stranger", "/CN=Jo", CLIENT);
    for (name, admin, open) in [
        ("jo", "jo jo 200", "jo jo 200"),
        ("mail", "403", "mo@example.com mo@example.com 200"),
        ("host", "403", "mo.example unknown 200"),
        ("stranger", "401", "nobody Jo 200"),
    ] {
        assert!(site.ask(name, "/admin", &[]).ends_with(admin), "{name}");
        assert_eq!(site.ask(name, "/open", &[]), open);
    }
    assert_eq!(site.ask("mail", "/user", &[]), "mo@example.com mo@example.com 200");
    assert!(site.ask("stranger", "/user", &[]).ends_with("certificate of a user 403"));
    assert!(site.ask("mail", "/digest", &[]).ends_with(" 200"));
    // Who logs in is who logged in.
    assert_eq!(site.ask("mail", "/admin", &["-u", "jo:open sesame"]), "jo mo@example.com 200");
    assert!(site.ask("jo", "/admin", &["-u", "jo:wrong"]).ends_with(" 401"));
    let dir = Dir::new();
    let jar = dir.0.join("jar").to_str().unwrap().to_owned();
    let form = "username=jo&password=open%20sesame";
    assert!(site.ask("mail", "/login", &["-c", &jar, "-d", form]).ends_with(" 303"));
    assert_eq!(site.ask("mail", "/admin", &["-b", &jar]), "jo mo@example.com 200");
}

#[test]
fn the_configuration_can_say_whose_a_certificate_is() {
    let one = |name: &str, user: &str, role: &str| CertificateUser {
        name: name.into(),
        user: user.into(),
        role: role.into(),
    };
    let site = site(
        |tls, _| tls,
        |auth, ca| {
            for name in ["jo", "panel", "pinned", "Plant%207"] {
                ca.certificate(name, &format!("/CN={name}"), CLIENT);
            }
            let digits = ca.fingerprint("pinned").replace(':', "").to_lowercase();
            auth.certificates = vec![
                one(&format!("SHA256:{digits}"), "jo", ""),
                one("pinned", "mo.example", ""),
                one("panel", "", "user"),
            ];
        },
    );
    assert_eq!(site.ask("pinned", "/open", &[]), "jo pinned 200");
    assert_eq!(site.ask("panel", "/user", &[]), "panel panel 200");
    assert!(site.ask("panel", "/admin", &[]).ends_with(" 403"));
    // The name of a user means nothing where certificates are listed.
    assert_eq!(site.ask("jo", "/open", &[]), "nobody jo 200");
}

#[test]
fn a_page_of_another_site_cannot_use_the_certificate_of_the_browser() {
    let site = site(|tls, _| tls, |_, _| ());
    site.authority.certificate("jo", "/CN=jo", CLIENT);
    let post = |path: &str, fields: &[&str]| {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).chain(["-d", "x"]).collect();
        site.ask("jo", path, &fields)
    };
    let own = format!("Origin: https://localhost:{}", site.port);
    for foreign in
        ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: null"]
    {
        assert!(post("/admin", &[foreign]).ends_with("another site may not do that 403"), "{foreign}");
        assert_eq!(post("/open", &[foreign]), "nobody jo 200", "{foreign}");
    }
    for good in [&[][..], &[own.as_str()], &["Sec-Fetch-Site: same-origin"]] {
        assert_eq!(post("/admin", good), "jo jo 200");
        assert_eq!(post("/open", good), "jo jo 200");
    }
}

#[test]
fn neither_a_ticket_nor_an_open_connection_outlives_a_new_authority() {
    let site = site(|tls, _| tls, |_, _| ());
    let ca = &site.authority;
    let (certificate, key) = ca.certificate("jo", "/CN=jo", CLIENT);
    let session = ca.file("session");
    let own = ["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()];
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |flag: &str, own: &[&str]| {
            s_client(site.port, "/user", &[&[version, flag, session.to_str().unwrap()], own].concat())
        };
        assert!(ask("-sess_out", &own).contains("jo jo"));
        // The ticket holds whose certificate it was.
        let said = ask("-sess_in", &[]);
        assert!(said.contains("Reused, ") && said.contains("jo jo"), "{said}");
    }
    // A second authority takes the place of the first.
    let next = Authority::new("next");
    let (certificate, key) = ca.pair("localhost");
    let url = format!("https://localhost:{}/user", site.port);
    let script = "import http.client, ssl, sys\n\
        host, ca, cert, key = sys.argv[1:]\n\
        trust = ssl.create_default_context(cafile=ca); trust.load_cert_chain(cert, key)\n\
        c = http.client.HTTPSConnection(host, context=trust)\n\
        for line in [1, 2]:\n\
        \x20   c.request('GET', '/user'); r = c.getresponse()\n\
        \x20   print(r.status, r.read().decode(), r.getheader('Connection'), flush=True); sys.stdin.readline()";
    let (ours, our_key) = ca.pair("jo");
    let mut child = Command::new("python3")
        .args(["-c", script, url.split('/').nth(2).unwrap()])
        .args([ca.file("ca.crt"), ours, our_key])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "200 jo jo None");
    site.server
        .handle
        .set_tls(TlsServer::new().identity(certificate, key).clients(next.file("ca.crt")).build().unwrap());
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"\n\n").unwrap();
    // What is open ends with its next answer.
    assert_eq!(lines.next().unwrap().unwrap(), "200 jo jo close");
    child.wait().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let said =
            s_client(site.port, "/user", &[&[version, "-sess_in", session.to_str().unwrap()], &own[..]].concat());
        assert!(!said.contains("jo jo") && !said.contains("Reused, "), "{said}");
    }
}
