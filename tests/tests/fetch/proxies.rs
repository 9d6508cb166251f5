//! Through proxies of HTTP and SOCKS5, as curl goes through them.

use std::path::Path;
use std::process::{Command, Output};

use ioto_tests::Scratch;

use crate::gate::Gate;
use crate::server::{Server, command};

type Variables<'a> = &'a [(&'a str, &'a str)];

fn ours(directory: &Path, variables: Variables, arguments: &[&str]) -> Output {
    command(directory, arguments).envs(variables.iter().copied()).output().expect("start ioto")
}

fn theirs(directory: &Path, variables: Variables, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-q", "-s"]).args(arguments).current_dir(directory);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(variables.iter().copied()).output().expect("start curl")
}

/// GATE stands for the place of a proxy with the login `me:s3cret` and PORT for that of a server; every host is this machine.
fn carried(variables: Variables, arguments: &[&str]) -> Vec<String> {
    let (gate, server, scratch) = (Gate::open(Some("me:s3cret")), Server::start(), Scratch::new());
    let (address, port) = (gate.address.to_string(), server.url("").rsplit(':').next().expect("a port").to_owned());
    let fill = |text: &str| text.replace("GATE", &address).replace("PORT", &port);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, fill(value))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments: Vec<_> = arguments.iter().map(|word| fill(word)).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcomes = [theirs, ours].map(|run| {
        let output = run(scratch.path(), &variables, &arguments);
        let asked: Vec<_> = server.take().into_iter().map(|seen| (seen.method, seen.target, seen.body)).collect();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (gate.carried(), asked, output.stdout, output.status.code(), said)
    });
    let [theirs, ours] = &outcomes;
    assert!(
        (&theirs.0, &theirs.1, &theirs.2) == (&ours.0, &ours.1, &ours.2),
        "{variables:?} {arguments:?}: {outcomes:?}"
    );
    assert_eq!(theirs.3, ours.3, "{variables:?} {arguments:?}: {outcomes:?}");
    assert!(!ours.4.contains("s3cret"), "{}", ours.4);
    ours.0.iter().map(|line| line.replace(&port, "PORT")).collect()
}

#[test]
fn requests_go_through_proxies_of_both_kinds() {
    let (far, http) = ("http://far.example:PORT/text", "http://me:s3cret@GATE");
    assert_eq!(carried(&[], &["-x", http, far]), ["GET http://far.example:PORT/text"]);
    assert_eq!(carried(&[], &["-x", "me:s3cret@GATE", far, far]), ["GET http://far.example:PORT/text"; 2]);
    assert_eq!(carried(&[], &["-x", "GATE", "-U", "me:s3cret", far]), ["GET http://far.example:PORT/text"]);
    assert_eq!(carried(&[("http_proxy", "GATE")], &["-U", "me:s3cret", far]), ["GET http://far.example:PORT/text"]);
    assert_eq!(carried(&[], &["-x", http, "-d", "a=1", far]), ["POST http://far.example:PORT/text"]);
    for socks in ["socks5h://me:s3cret@GATE", "socks5://me:s3cret@GATE"] {
        // curl looks the name up itself with socks5, and there is nobody to ask.
        let (url, place) = match socks.contains("5h") {
            true => (far, "SOCKS far.example:PORT"),
            false => ("http://127.0.0.1:PORT/text", "SOCKS 127.0.0.1:PORT"),
        };
        assert_eq!(carried(&[], &["-x", socks, url]), [place]);
        assert_eq!(carried(&[], &["-x", socks, "-L", "-d", "a=1", &url.replace("text", "redirect")]), [place]);
    }
}

#[test]
fn variables_of_the_environment_count_as_with_curl() {
    let (far, near) = ("http://far.example:PORT/text", "http://127.0.0.1:PORT/text");
    let (gate, through) = ("http://me:s3cret@GATE", "GET http://far.example:PORT/text");
    assert_eq!(carried(&[("http_proxy", gate)], &[far]), [through]);
    assert_eq!(carried(&[("ALL_PROXY", gate)], &[far]), [through]);
    assert_eq!(carried(&[("http_proxy", "http://127.0.0.1:1")], &["-x", gate, far]), [through]);
    assert_eq!(carried(&[("http_proxy", gate), ("no_proxy", "127.0.0.1,x.example")], &[near, far]), [through]);
    let none: [&str; 0] = [];
    assert_eq!(carried(&[("http_proxy", gate)], &["-x", "", near]), none);
    assert_eq!(carried(&[("HTTP_PROXY", gate), ("https_proxy", gate)], &[near]), none);
    assert_eq!(carried(&[("http_proxy", gate), ("NO_PROXY", "*")], &[near]), none);
    assert_eq!(carried(&[("no_proxy", "127.0.0.0/8")], &["-x", gate, near]), none);
    assert_eq!(carried(&[("no_proxy", "*")], &["-x", gate, "--noproxy", "x.example", far]), [through]);
    assert_eq!(carried(&[("http_proxy", gate)], &["--noproxy", "127.0.0.1", near, far]), [through]);
}

#[test]
fn tls_goes_through_a_tunnel_of_either_kind() {
    let scratch = Scratch::new();
    let server = crate::alone::Tls::start(scratch.path(), &[]);
    let url = format!("https://127.0.0.1:{}/", server.port);
    for (scheme, verb) in [("http", "CONNECT"), ("socks5", "SOCKS")] {
        let gate = Gate::open(None);
        let proxy = format!("{scheme}://{}", gate.address);
        for run in [theirs, ours] {
            let output = run(scratch.path(), &[("https_proxy", &proxy)], &["--cacert", "ca.pem", "-o", "out", &url]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(gate.carried(), [format!("{verb} 127.0.0.1:{}", server.port)]);
        }
    }
}

#[test]
fn a_proxy_that_lets_nobody_through_is_named_without_the_password() {
    let (gate, scratch) = (Gate::open(Some("me:s3cret")), Scratch::new());
    for (proxy, url) in [
        (format!("http://me:wr0ng@{}", gate.address), "http://far.example/"),
        (format!("http://me:wr0ng@{}", gate.address), "https://far.example/"),
        (format!("socks5://me:wr0ng@{}", gate.address), "http://far.example/"),
        (format!("socks5://{}", gate.address), "https://far.example/"),
    ] {
        let output = ours(scratch.path(), &[], &["-x", &proxy, url]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(97), "{said}");
        assert!(said.lines().count() == 1 && said.contains(&gate.address.to_string()), "{said}");
        assert!(said.contains("login") && !said.contains("wr0ng"), "{said}");
    }
    assert!(gate.carried().is_empty());
    let output = ours(scratch.path(), &[("http_proxy", "ftp://x")], &["http://far.example/"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("http_proxy: "));
}
