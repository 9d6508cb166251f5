//! The same arguments for curl and for `ioto fetch`: what the server is asked, what is written, and the exit status.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ioto_tests::Scratch;

use crate::server::{Seen, Server, ioto};

/// Fields that say who asks or how, and so may differ.
const OWN: [&str; 6] = ["user-agent", "host", "connection", "expect", "accept-encoding", "content-length"];

fn curl(directory: &Path, arguments: &[&str]) -> Output {
    // Without -s curl draws its progress wherever standard error leads; errors are not compared.
    let mut command = Command::new("curl");
    command.arg("-q").args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir(directory);
    command.output().expect("start curl")
}

/// What must be the same: the body without its boundary.
fn comparable(seen: &Seen) -> Seen {
    let mut seen = seen.clone();
    seen.headers.retain(|(name, _)| !OWN.contains(&name.as_str()));
    seen.headers.sort();
    let boundary = seen.header("content-type").and_then(|kind| kind.split_once("boundary=")).map(|(_, b)| b.to_owned());
    if let Some(boundary) = boundary {
        let text = String::from_utf8_lossy(&seen.body).replace(&boundary, "BOUNDARY").replace("\r\n", "\n");
        seen.body = text.into_bytes();
        seen.headers.retain(|(name, _)| name != "content-type");
    }
    seen
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("list")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(path).expect("read")))
        .collect();
    files.sort();
    files
}

fn prepare(directory: &Path) {
    fs::write(directory.join("lines"), "a=1\r\nb=2\n").expect("write");
    fs::write(directory.join("bytes.png"), [0, 1, 2, 255, 10, 13]).expect("write");
    fs::write(directory.join("fields"), "X-One: 1\n\nX-Two:  2\n").expect("write");
    fs::write(directory.join("part"), &crate::server::data()[..4000]).expect("write");
    fs::write(directory.join("all"), crate::server::data()).expect("write");
}

fn compare(cases: &[&[&str]]) {
    let server = Server::start();
    for case in cases {
        let arguments: Vec<String> =
            case.iter().map(|word| word.strip_prefix('~').map_or(word.to_string(), |path| server.url(path))).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let of = |run: fn(&Path, &[&str]) -> Output| {
            let scratch = Scratch::new();
            prepare(scratch.path());
            let output = run(scratch.path(), &arguments);
            let seen: Vec<Seen> = server.take().iter().map(comparable).collect();
            (output, seen, files(scratch.path()))
        };
        let (theirs, ours) = (of(curl), of(ioto));
        let context = format!("{case:?}\n{}", String::from_utf8_lossy(&ours.0.stderr));
        assert_eq!(ours.1, theirs.1, "what the server is asked: {context}");
        let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text(&ours.0), text(&theirs.0), "what is written: {context}");
        assert_eq!(ours.2, theirs.2, "files: {context}");
        assert_eq!(ours.0.status.code(), theirs.0.status.code(), "the exit status: {context}");
    }
}

#[test]
fn requests_are_those_of_curl() {
    compare(&[
        &["~/text"],
        &["~/a%20b?c=d"],
        &["-X", "PATCH", "~/text"],
        &["-XDELETE", "~/text"],
        &["-H", "X-One: 1", "-H", "x-two:2", "-H", "Accept: text/html", "~/text"],
        &["-H", "@fields", "~/text"],
        &["-H", "X-Empty;", "~/text"],
        &["-A", "me/1", "-u", "jo:pass:word", "~/text"],
        &["-r", "5-9", "~/data"],
        &["-I", "~/missing"],
        &["~/text", "~/empty", "~/text"],
        &["~/compressed"],
        &["--compressed", "~/compressed"],
        &["--compressed", "-o", "out", "~/compressed"],
    ]);
}

#[test]
fn bodies_are_those_of_curl() {
    compare(&[
        &["-d", "a=1", "~/text"],
        &["-d", "a=1", "--data", "b= 2&", "--data-raw", "@c", "~/text"],
        &["-d", "@lines", "~/text"],
        &["--data-binary", "@lines", "~/text"],
        &["--data-binary", "@bytes.png", "-H", "Content-Type: image/png", "~/text"],
        &["--data-urlencode", "a=b c&\u{fc}", "--data-urlencode", "x@lines", "--data-urlencode", "=~_", "~/text"],
        &["-d", "a=1", "-X", "PUT", "~/text"],
        &["-d", "", "~/text"],
        &["-G", "-d", "a=1", "--data-urlencode", "b=c d", "~/text?x=y"],
        &["--json", "{\"a\": 1}", "~/text"],
        &["--json", "[1,", "--json", "2]", "-H", "Accept: */*", "~/text"],
        &["-F", "a=1", "-F", "b=two words", "~/text"],
        &["-F", "file=@bytes.png", "-F", "text=<lines", "~/text"],
        &["-F", "file=@lines;type=text/csv;filename=\"x y.csv\"", "~/text"],
        &["-T", "lines", "~/"],
        &["-T", "lines", "-X", "POST", "~/text"],
    ]);
}

#[test]
fn redirections_are_those_of_curl() {
    compare(&[
        &["~/redirect"],
        &["-L", "~/redirect"],
        &["-L", "-d", "a=1", "~/redirect"],
        &["-L", "-d", "a=1", "~/see-other"],
        &["-L", "-d", "a=1", "~/keep-method"],
        &["-L", "-u", "jo:pw", "~/redirect"],
        &["-L", "-o", "file", "~/redirect"],
    ]);
}

#[test]
fn files_are_those_of_curl() {
    compare(&[
        &["-o", "out", "~/text"],
        &["-o", "out", "~/empty"],
        &["-O", "~/text?x=y"],
        &["-o", "-", "~/text"],
        &["-C", "-", "-o", "part", "~/data"],
        &["-C", "-", "-o", "new", "~/data"],
        &["-C", "4000", "-o", "part", "~/data"],
        &["-C", "-", "-o", "all", "~/data"],
        &["-C", "-", "-o", "part", "~/whole"],
        &["-f", "-o", "part", "~/missing"],
        &["-o", "none/out", "~/text"],
    ]);
}

#[test]
fn exit_statuses_are_those_of_curl() {
    compare(&[
        &["-f", "~/missing"],
        &["-f", "~/broken"],
        &["~/missing"],
        &["~/cut"],
        &["~/silent"],
        &["-m", "0.5", "~/slow"],
        &["http://127.0.0.1:1/"],
        &["http://does-not-exist.invalid/"],
        &["-T", "none", "~/text"],
        &["-x", "http://127.0.0.1:1", "~/text"],
        &["--compressed", "-o", "/dev/null", "~/damaged"],
        &["-w", "%{http_code} %{size_download} %{content_type} %{exitcode}\\n", "~/text"],
        &["-f", "-w", "%{http_code} %{exitcode}\\n", "~/missing"],
        &["-d", "12345", "-w", "%{size_upload} %{method}\\t%{url_effective}", "~/text"],
    ]);
}

#[test]
fn heads_are_those_of_curl() {
    compare(&[&["-i", "~/text"], &["-I", "~/text"], &["-i", "-L", "~/text"], &["-i", "~/missing"]]);
}
