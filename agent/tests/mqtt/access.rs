//! Who is let in: passwords, TLS, client certificates.

use std::fs;
use std::process::Command;

use ioto::mqtt::{Client, Options};
use ioto::net::TlsClient;

use super::broker::{Broker, Directory, collect, failure, in_time, program, with_client};

#[test]
fn a_wrong_password_is_explained_and_the_right_one_works() {
    let directory = Directory::new();
    let passwords = directory.file("passwords");
    let mut make = Command::new(program("mosquitto_passwd"));
    assert!(make.args(["-b", "-c"]).arg(&passwords).args(["me", "right"]).status().unwrap().success());
    let broker = Broker::start_in(directory, "allow_anonymous false\npassword_file DIR/passwords");
    for options in [broker.options("login"), broker.options("login").login("me", "wrong")] {
        with_client(options, async |client: Client| {
            let reason = failure(&client).await;
            assert!(reason.contains("not authorised") && reason.contains("password"), "{reason}");
        });
    }
    with_client(broker.options("login").login("me", "right"), async |client: Client| {
        in_time("acknowledgement", client.publish("x", "y")).await.unwrap();
    });
}

/// An authority, and certificates by it for the broker (localhost) and for a client.
fn certificates(directory: &Directory) {
    let settings = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = ioto test\n\
        [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
        [leaf]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n";
    fs::write(directory.file("openssl.cnf"), settings).unwrap();
    let ca = ["-CA", "ca.crt", "-CAkey", "ca.key"];
    for (name, extensions, issuer) in
        [("ca", "authority", &[][..]), ("server", "leaf", &ca[..]), ("client", "leaf", &ca[..])]
    {
        let output = Command::new(program("openssl"))
            .current_dir(&directory.0)
            .args(["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-extensions", extensions, "-keyout", &format!("{name}.key")])
            .args(["-out", &format!("{name}.crt"), "-subj", &format!("/CN=ioto test {name}")])
            .args(issuer)
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn tls_broker(settings: &str) -> Broker {
    let directory = Directory::new();
    certificates(&directory);
    let tls = "cafile DIR/ca.crt\ncertfile DIR/server.crt\nkeyfile DIR/server.key\nallow_anonymous true";
    Broker::start_in(directory, &format!("{tls}\n{settings}"))
}

async fn echoes(client: Client) {
    let incoming = collect(&client, "echo").await;
    for n in 0..50 {
        let payload = n.to_string().repeat(n * 50);
        in_time("acknowledgement", client.publish("echo", payload.clone())).await.unwrap();
        assert_eq!(in_time("echo", incoming.recv()).await.unwrap().payload, payload);
    }
}

#[test]
fn tls_works_with_the_brokers_authority_and_only_with_it() {
    let broker = tls_broker("");
    let authority = broker.directory.file("ca.crt");
    for host in ["localhost", "127.0.0.1"] {
        let tls = TlsClient::builder().authority(&authority).build().unwrap();
        with_client(Options::new(host, broker.port, "tls").tls(tls), echoes);
    }
    let stranger = Directory::new();
    certificates(&stranger);
    let tls = TlsClient::builder().authority(stranger.file("ca.crt")).build().unwrap();
    with_client(broker.options("stranger").tls(tls), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.contains("no secure connection") && reason.contains("authority"), "{reason}");
    });
    with_client(broker.options("plain"), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.contains("TLS"), "{reason}");
    });
}

#[test]
fn mutual_tls_works_with_a_client_certificate_and_only_with_it() {
    let broker = tls_broker("require_certificate true\nuse_identity_as_username true");
    let file = |name| broker.directory.file(name);
    let tls = TlsClient::builder().authority(file("ca.crt"));
    let identified = tls.clone().identity(file("client.crt"), file("client.key")).alpn(["mqtt"]).build().unwrap();
    with_client(broker.options("identified").tls(identified), echoes);
    with_client(broker.options("nobody").tls(tls.build().unwrap()), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    });
}
