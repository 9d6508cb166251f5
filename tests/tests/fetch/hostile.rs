//! Servers that are broken or mean: each costs one line of an error, little time and little memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Scratch, program};

/// Address space that the command may have, in KB: that of the program with its libraries and threads, and some.
const SPACE: u32 = 400_000;

/// How long each may take: little more than `-m`, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Bytes that a client without limits would take.
const ENDLESS: usize = 1 << 40;

/// Gives every client the same answer and closes; with a `piece`, that again and again after it.
fn serve(head: &[u8], piece: &[u8], closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x", listener.local_addr().expect("it is bound"));
    let (head, piece) = (head.to_vec(), piece.repeat(1.max(65_536 / piece.len().max(1))));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let _ = answer(client, &head, &piece, closes);
        }
    });
    url
}

fn answer(mut client: TcpStream, head: &[u8], piece: &[u8], closes: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    client.write_all(head)?;
    let mut sent = 0;
    while !piece.is_empty() && sent < ENDLESS {
        client.write_all(piece)?;
        sent += piece.len();
    }
    // Until the client goes.
    if !closes {
        reader.read_line(&mut line)?;
    }
    Ok(())
}

#[test]
fn each_bad_answer_is_one_line_in_bounded_time_and_memory() {
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n";
    let bomb = bomb();
    let half = &bomb[..bomb.len() / 2];
    let with = |head: String, body: &[u8]| [head.as_bytes(), body].concat();
    let cases: Vec<(&str, i32, &[&str], String)> = vec![
        ("nothing", 52, &[], serve(b"", b"", true)),
        ("no HTTP", 8, &[], serve(b"220 mail.example ESMTP\r\n\r\n", b"", true)),
        ("HTTP/2", 8, &[], serve(b"HTTP/2 200\r\n\r\n", b"", true)),
        ("a head without end", 8, &[], serve(b"HTTP/1.1 200 OK\r\n", b"X: yyyyyyyyyyyyyyyyyyyyyyyy\r\n", true)),
        ("a field without end", 8, &[], serve(b"HTTP/1.1 200 OK\r\nX: ", b"yyyyyyyy", true)),
        ("a status line without end", 8, &[], serve(b"HTTP/1.1 200 ", b"yyyyyyyy", true)),
        ("1xx without end", 8, &[], serve(b"", b"HTTP/1.1 102 Processing\r\n\r\n", true)),
        ("a head that breaks off", 52, &[], serve(b"HTTP/1.1 200 OK\r\nConte", b"", true)),
        ("a short body", 18, &[], serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"", true)),
        (
            "chunks that break off",
            18,
            &[],
            serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nab", b"", true),
        ),
        (
            "no size of a chunk",
            8,
            &[],
            serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"", true),
        ),
        (
            "two lengths",
            8,
            &[],
            serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"", true),
        ),
        (
            "length and chunks",
            8,
            &[],
            serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", true),
        ),
        (
            "trailers without end",
            8,
            &[],
            serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: yyyyyyyy\r\n", true),
        ),
        (
            "redirections without end",
            47,
            &["-L"],
            serve(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"", true),
        ),
        (
            "a redirection to nowhere",
            1,
            &["-L"],
            serve(b"HTTP/1.1 302 Found\r\nLocation: http://[/\r\nContent-Length: 0\r\n\r\n", b"", true),
        ),
        (
            "gzip that breaks off",
            61,
            &["--compressed"],
            serve(&with(format!("{gzip}Content-Length: {}\r\n\r\n", half.len()), half), b"", true),
        ),
        (
            "no gzip",
            61,
            &["--compressed"],
            serve(&with(format!("{gzip}Content-Length: 8\r\n\r\n"), b"no gzip!"), b"", true),
        ),
        (
            "a bomb",
            0,
            &["--compressed"],
            serve(&with(format!("{gzip}Content-Length: {}\r\n\r\n", bomb.len()), &bomb), b"", true),
        ),
        ("silence", 28, &["-m", "0.5"], serve(b"", b"", false)),
        ("silence in a head", 28, &["-m", "0.5"], serve(b"HTTP/1.1 200 OK\r\n", b"", false)),
        (
            "silence in a body",
            28,
            &["-m", "0.5"],
            serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"", false),
        ),
        ("a body without end", 28, &["-m", "0.5"], serve(b"HTTP/1.1 200 OK\r\n\r\n", b"yyyyyyyy", true)),
        (
            "chunks without end",
            28,
            &["-m", "0.5"],
            serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nabcd\r\n", true),
        ),
    ];
    let scratch = Scratch::new();
    let limited = format!("ulimit -v {SPACE} && exec \"$@\"");
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(what, status, options, url)| {
            let start = Instant::now();
            let output = Command::new("/bin/sh")
                .args(["-c", &limited, "sh"])
                .arg(program("ioto"))
                .args(["fetch", "-o", "/dev/null", &url])
                .args(options)
                .env_clear()
                .current_dir(scratch.path())
                .stdin(Stdio::null())
                .output()
                .expect("start ioto");
            let (said, took) = (String::from_utf8_lossy(&output.stderr), start.elapsed());
            let is_one_line = said.lines().count() == usize::from(status != 0);
            let is_named = status == 0 || said.contains("127.0.0.1") || said.contains("'http://[/'");
            let is_right = output.status.code() == Some(status) && is_one_line && is_named && took < LIMIT;
            (!is_right).then(|| format!("{what}: {} after {took:?}, {status} expected: {said}", output.status))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// 64 MB of zeros, compressed to a thousandth of it.
fn bomb() -> Vec<u8> {
    let output = Command::new("sh").args(["-c", "head -c 67108864 /dev/zero | gzip -9"]).output().expect("run gzip");
    assert!(output.status.success());
    output.stdout
}
