//! What only `ioto fetch` has, or has in its own way.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ioto_tests::{Scratch, eventually, free_port, program};

use crate::server::{Server, command, data, ioto};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn repeated_requests_share_a_connection() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let url = server.url("/text");
    let output = ioto(scratch.path(), &["--repeat", "20", "-d", "a=1", &url, &url]);
    assert!(output.status.success(), "{}", stderr(&output));
    let seen = server.take();
    assert_eq!((seen.len(), server.connections()), (40, 1));
    assert!(seen.iter().all(|seen| seen.body == b"a=1"));
    assert_eq!(output.stdout, b"hello\n".repeat(40));
}

#[test]
fn what_fails_in_passing_is_tried_again() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let output = ioto(scratch.path(), &["-f", "--retry", "2", &server.url("/flaky")]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"hello\n"[..]), "{}", stderr(&output));
    assert_eq!(server.take().len(), 2);
    let output = ioto(scratch.path(), &["-f", "--retry", "2", "-d", "a=1", &server.url("/flaky")]);
    assert_eq!(output.status.code(), Some(22), "a POST is not repeated");
    assert_eq!(server.take().len(), 1);
}

#[test]
fn failures_are_one_line_each() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let loops = server.url("/loop");
    for (arguments, status, part) in [
        (vec!["-L", &loops], 47, "10 redirections"),
        (vec!["http://127.0.0.1:1/"], 7, "127.0.0.1 port 1"),
        (vec!["ftp://127.0.0.1/"], 3, "http"),
        (vec!["-k", "https://127.0.0.1:1/"], 2, "profile dev"),
        (vec!["-f", &server.url("/missing")], 22, "404 Not Found"),
        (vec!["--sigv4", "s3", "-L", &loops], 2, "one URL"),
        (vec!["--cacert", "/does/not/exist", &loops], 77, "/does/not/exist"),
        (vec![&server.url("/garbage")], 8, "127.0.0.1"),
        (vec!["--limit-rate", "fast", &loops], 2, "fast"),
        (vec!["-d", "@none", &loops], 26, "none"),
        (vec![], 2, "URL"),
    ] {
        let output = ioto(scratch.path(), &arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(part) && text.lines().count() <= 2, "{arguments:?}: {text}");
        let arguments: Vec<&str> = ["-s"].into_iter().chain(arguments).collect();
        let output = ioto(scratch.path(), &arguments);
        assert!(status == 2 || output.stderr.is_empty(), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn verbose_shows_heads_and_no_secrets() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let output = ioto(scratch.path(), &["-v", "-u", "jo:secret", "-H", "Cookie: s=secret", &server.url("/text")]);
    let text = stderr(&output);
    for part in ["> GET /text HTTP/1.1\n", "> Authorization: ***\n", "< HTTP/1.1 200 OK\r\n", "< X-Two: b\r\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(server.take()[0].header("authorization"), Some("Basic am86c2VjcmV0"));
}

#[test]
fn the_password_can_come_by_standard_input() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let mut child = command(scratch.path(), &["-u", "jo", &server.url("/text")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start ioto");
    std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), b"secret\n").expect("write");
    assert!(child.wait().expect("wait").success());
    assert_eq!(server.take()[0].header("authorization"), Some("Basic am86c2VjcmV0"));
}

#[test]
fn the_rate_is_limited() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let start = Instant::now();
    let output = ioto(scratch.path(), &["--limit-rate", "5k", &server.url("/data")]);
    assert_eq!(output.stdout, data(), "{}", stderr(&output));
    let took = start.elapsed();
    assert!((1.2..4.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[test]
fn standard_input_is_sent_while_it_is_read() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let mut child = command(scratch.path(), &["-T", "-", &server.url("/text")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start ioto");
    std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), &data()).expect("write");
    assert!(child.wait().expect("wait").success());
    let seen = server.take().remove(0);
    assert_eq!((seen.method.as_str(), seen.header("transfer-encoding")), ("PUT", Some("chunked")));
    assert!(seen.body == data());
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let mut child = command(scratch.path(), &["--repeat", "200", &server.url("/data")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start ioto");
    let mut some = [0; 100];
    child.stdout.take().expect("it is piped").read_exact(&mut some).expect("read");
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let (server, scratch) = (Server::start(), Scratch::new());
    let line = format!("{} fetch --limit-rate 5k -o out {}", program("ioto").display(), server.url("/data"));
    let on_terminal = |line: &str| {
        let mut command = Command::new("script");
        let output = command.args(["-q", "-e", "-c", line, "/dev/null"]).current_dir(scratch.path()).output();
        let output = output.expect("run script, of Debian's bsdutils");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = on_terminal(&line);
    assert!(text.contains(" % of 9.8 k") && text.contains("/s") && text.contains(" left"), "{text:?}");
    assert!(text.ends_with("\r\u{1b}[K"), "the line is cleared at the end: {text:?}");
    assert_eq!(on_terminal(&format!("{line} -s")), "");
    let output = ioto(scratch.path(), &["--limit-rate", "5k", "-o", "out", &server.url("/data")]);
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

/// `openssl s_server`, which answers each GET with a page about the connection.
pub struct Tls {
    child: Child,
    pub port: u16,
}

impl Tls {
    pub fn start(directory: &Path, more: &[&str]) -> Self {
        let run = |line: &str| {
            let status = Command::new("openssl")
                .args(line.split_whitespace())
                .current_dir(directory)
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("run openssl").success(), "{line}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
        for (name, subject) in [("server", "/CN=server"), ("client", "/CN=client")] {
            run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj {subject}"));
            std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1").expect("write");
            run(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names"
            ));
        }
        let port = free_port();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem"])
            .args(["-accept", &format!("127.0.0.1:{port}")])
            .args(more)
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start openssl");
        eventually("the TLS server listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn servers_are_trusted_by_their_authority_or_by_a_developer() {
    let scratch = Scratch::new();
    let server = Tls::start(scratch.path(), &[]);
    let url = format!("https://127.0.0.1:{}/", server.port);
    let status = |arguments: &[&str]| {
        let output = ioto(scratch.path(), &[arguments, &["-o", "out", &url]].concat());
        (output.status.code(), stderr(&output))
    };
    assert_eq!(status(&["--cacert", "ca.pem"]).0, Some(0));
    assert_eq!(status(&[]).0, Some(60));
    assert_eq!(status(&["-k"]).0, Some(2), "the profile is prod unless it is said");
    let dev = ["-k", "--profile", "dev"];
    assert_eq!(status(&dev).0, Some(0), "{}", status(&dev).1);
}

#[test]
fn a_server_without_a_pinned_key_is_refused() {
    let scratch = Scratch::new();
    let server = Tls::start(scratch.path(), &[]);
    let url = format!("https://127.0.0.1:{}/", server.port);
    let fetch = |pins: &str| {
        let output = ioto(scratch.path(), &["--cacert", "ca.pem", "--pinnedpubkey", pins, "-o", "out", &url]);
        (output.status.code(), stderr(&output))
    };
    let other = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let (status, said) = fetch(other);
    assert_eq!(status, Some(90), "{said}");
    let own = said.split([' ', ';']).rfind(|word| word.starts_with("sha256//")).expect("the server's pin");
    assert_eq!(fetch(&format!("{other}; {own}")).0, Some(0), "{own}");
    assert_eq!(fetch("sha256//short").0, Some(2));
    let alone = ioto(scratch.path(), &["--pinnedpubkey", own, "-o", "out", &url]);
    assert_eq!(alone.status.code(), Some(60), "a pin does not stand for an authority");
}

#[test]
fn clients_show_their_certificate() {
    let scratch = Scratch::new();
    let server = Tls::start(scratch.path(), &["-Verify", "1", "-verify_return_error"]);
    let url = format!("https://127.0.0.1:{}/", server.port);
    let fetch = |arguments: &[&str]| ioto(scratch.path(), &[&["--cacert", "ca.pem", &url], arguments].concat());
    let output = fetch(&["--cert", "client.pem", "--key", "client.key"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("CN=client") || text.contains("CN = client"), "{output:?}");
    assert!(!fetch(&[]).status.success());
    assert_eq!(fetch(&["--key", "client.key"]).status.code(), Some(2));
}
