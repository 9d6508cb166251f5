//! Requests as clients, proxies and attackers send them: mostly right, with some parts that are not.

use fastrand::Rng;

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "M-SEARCH"];
const ODD_METHODS: &[&str] =
    &["get", "G@T", "", "CONNECT", "G ET", "\u{e9}", "GET\t", "A_VERY_LONG_METHOD_OF_NOBODY", "(GET)"];
const TARGETS: &[&str] = &[
    "/",
    "/index.html",
    "/a/b?c=d&e=f",
    "/a%20b",
    "/?",
    "//double//slash",
    "/a;b=c",
    "/~user/!$&'()*+,;=:@",
    "http://h/",
    "http://h:8080/x?y",
    "https://device.local",
    "http://[::1]:80/",
    "/a?b?c/d",
    "/caf%C3%A9",
];
const ODD_TARGETS: &[&str] = &[
    "",
    "*",
    "*",
    "a",
    "/a#b",
    "/a b",
    "/\u{e9}",
    "h:80",
    "http://",
    "http:///x",
    "http://u@h/",
    "ftp://h/",
    "/a\"b",
    "/a<b>",
    "/a\\b",
    "/a^b`c",
    "/{a}|b",
    "/?a\"b",
    "/?<>",
    "/?{a}|^`",
    "/?a\\b",
    "http://h:99999/",
    "http://a,b/",
    "HTTP://H/",
    "/\x7f",
    "/\0",
];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"];
const ODD_VERSIONS: &[&str] =
    &["HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.10", "HTTP/0.9", "", "XXX", "HTTP/1.1 ", "HTTP/11"];
const HOSTS: &[&str] = &["Host: h", "host:h:80", "HOST: \t127.0.0.1:8080 ", "Host: [::1]"];
const ODD_HOSTS: &[&str] =
    &["", "Host:", "Host: a\r\nHost: b", "Host: a/b", "Host: u@h", "Host: a b", "Host : h", "Host: h:x"];
const FIELDS: &[&str] = &[
    "Accept: */*",
    "User-Agent: x/1 (y; z)",
    "Cookie: a=b; c=\"d\"",
    "X-Empty:",
    "X-Spaces:   a  b \t",
    "X-Utf8: gr\u{fc}n",
    "Connection: keep-alive",
    "Connection: Keep-Alive, Upgrade",
    "X-Quote: \"a\\\"b\"",
    "If-None-Match: \"x\", W/\"y\"",
    "x_under.score!#$%&'*+-^`|~: 1",
    "Expect: 100-continue",
    "Connection: close",
    "Content-Type: text/plain; charset=utf-8",
];
const ODD_FIELDS: &[&str] = &[
    "X: a\r\n folded",
    "X: a\nY: b",
    "X: a\rb",
    "X: a\0b",
    "X : a",
    "X",
    ": a",
    "X[]: a",
    "X: \x01",
    "X: \x7f",
    " X: a",
    "X\t: a",
    "Expect: 200-ok",
    "Expect: 100-continue\r\nExpect: 100-continue",
    "Trailer: X",
    "TE: trailers",
    "X: \u{80}",
    "\u{fc}: a",
    "Connection: keep-alive, close",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Proxy-Connection: close",
];
const ODD_FRAMINGS: &[&str] = &[
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length: 5",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: -1",
    "Content-Length: 0x3",
    "Content-Length: 3 ",
    "Content-Length: 3abc",
    "Content-Length:",
    "Content-Length: 99999999999999999999",
    "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked;q=1",
    "Content_Length: 3",
    "Content-Length : 3",
    "Transfer-Encoding : chunked",
    "Content-Length: 003",
];

/// The bytes of one connection: up to three requests.
pub fn connection(random: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..=3) {
        request(random, &mut bytes);
    }
    if random.u8(0..10) < 3 {
        mutate(random, &mut bytes);
    }
    if random.u8(0..20) == 0 {
        bytes.truncate(random.usize(0..=bytes.len()));
    }
    bytes
}

fn request(random: &mut Rng, out: &mut Vec<u8>) {
    if random.u8(0..30) == 0 {
        out.extend_from_slice(b"\r\n");
    }
    let line = [
        pick(random, METHODS, ODD_METHODS, 40),
        pick(random, TARGETS, ODD_TARGETS, 8),
        pick(random, VERSIONS, ODD_VERSIONS, 40),
    ];
    out.extend_from_slice(line.join(" ").as_bytes());
    let mut fields: Vec<String> = vec![pick(random, HOSTS, ODD_HOSTS, 25).to_owned()];
    for _ in 0..random.usize(0..4) {
        fields.push(pick(random, FIELDS, ODD_FIELDS, 12).to_owned());
    }
    let (framing, body) = body(random);
    fields.push(framing);
    random.shuffle(&mut fields);
    for field in fields.iter().filter(|field| !field.is_empty()) {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(field.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&body);
}

/// A field that frames a body, and the body.
fn body(random: &mut Rng) -> (String, Vec<u8>) {
    let length = random.usize(0..40);
    let payload: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    match random.u8(0..20) {
        0..8 => (String::new(), Vec::new()),
        8..13 => (format!("Content-Length: {length}"), payload),
        13..18 => ("Transfer-Encoding: chunked".to_owned(), chunks(random, &payload)),
        18 => (choice(random, ODD_FRAMINGS).to_owned(), b"abc".to_vec()),
        _ => (choice(random, ODD_FRAMINGS).to_owned(), chunks(random, b"abc")),
    }
}

fn chunks(random: &mut Rng, payload: &[u8]) -> Vec<u8> {
    const EXTENSIONS: &[&str] = &["", ";a", ";a=b", ";a=\"b;c\""];
    const ODD_EXTENSIONS: &[&str] = &[" ", " ;a", "\t", ";a\n", ";\x01", ";\u{fc}", "h", ","];
    const SIZES: &[&str] = &["", "0", "000"];
    const ODD_SIZES: &[&str] = &["+", "-", "0x", " ", "00000000000000000"];
    const ENDS: &[&str] = &["", "", "A: b\r\n", "A: b\r\nC:\r\n"];
    const ODD_ENDS: &[&str] = &["A\r\n", " A: b\r\n", "A: b\n", "A b: c\r\n", "A: \x01\r\n", "Content-Length: 5\r\n"];
    let mut out = Vec::new();
    for piece in payload.chunks(random.usize(1..20)) {
        let size = pick(random, SIZES, ODD_SIZES, 40);
        let extension = pick(random, EXTENSIONS, ODD_EXTENSIONS, 40);
        out.extend_from_slice(format!("{size}{:x}{extension}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(if random.u8(0..60) == 0 { b"x\r\n" } else { b"\r\n" });
    }
    let end = pick(random, ENDS, ODD_ENDS, 25);
    out.extend_from_slice(format!("0\r\n{end}\r\n").as_bytes());
    out
}

/// Changes one byte or two.
fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\r\n\0 \t:;,=\"/0aA\x7f\x80\xff";
    for _ in 0..random.usize(1..=2) {
        let at = random.usize(0..bytes.len().max(1)).min(bytes.len());
        let byte = BYTES[random.usize(0..BYTES.len())];
        match random.u8(0..3) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
}

/// One of the usual, and once in `rarity` one of the odd.
fn pick(random: &mut Rng, usual: &'static [&'static str], odd: &'static [&'static str], rarity: u32) -> &'static str {
    match random.u32(0..rarity) {
        0 => choice(random, odd),
        _ => choice(random, usual),
    }
}

fn choice(random: &mut Rng, from: &'static [&'static str]) -> &'static str {
    from[random.usize(0..from.len())]
}
