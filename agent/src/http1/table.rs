//! Tests of heads: what must be refused and how, any split, any mutation.

use super::*;

/// The seed of a randomised test: `SEED` of the environment, else the time. Printed, so that a failure can be repeated.
pub(super) fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
    });
    println!("SEED={seed}");
    seed
}

/// Requests of which nothing may be answered but the error, with its status.
fn refused() -> Vec<(&'static str, Vec<u8>, u16)> {
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n").into_bytes();
    let many: String = (0..65).map(|at| format!("X-{at}: y\r\n")).collect();
    vec![
        ("length and chunked", head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("chunked and length", head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400),
        ("xchunked", head("Transfer-Encoding: xchunked\r\n"), 501),
        ("gzip, chunked", head("Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("chunked, identity", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 501),
        ("chunked twice", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 501),
        ("empty transfer encoding", head("Transfer-Encoding:\r\n"), 501),
        ("chunked with a vertical tab", head("Transfer-Encoding: \x0bchunked\r\n"), 400),
        ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), 400),
        ("two lengths", head("Content-Length: 3\r\nContent-Length: 30\r\n"), 400),
        ("two equal lengths", head("Content-Length: 3\r\nContent-Length: 3\r\n"), 400),
        ("length -1", head("Content-Length: -1\r\n"), 400),
        ("length abc", head("Content-Length: abc\r\n"), 400),
        ("length 5abc", head("Content-Length: 5abc\r\n"), 400),
        ("length 3, 3", head("Content-Length: 3, 3\r\n"), 400),
        ("length +3", head("Content-Length: +3\r\n"), 400),
        ("length 0x3", head("Content-Length: 0x3\r\n"), 400),
        ("length with a space inside", head("Content-Length: 1 0\r\n"), 400),
        ("empty length", head("Content-Length: \r\n"), 400),
        ("length over 64 bits", head("Content-Length: 99999999999999999999\r\n"), 413),
        ("folded line", head("X: a\r\n b\r\n"), 400),
        ("folded line with a tab", head("X: a\r\n\tb\r\n"), 400),
        ("space before the first field", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n".to_vec(), 400),
        ("space before the colon", head("Content-Length : 3\r\n"), 400),
        ("no colon", head("Content-Length\r\n"), 400),
        ("empty name", head(": x\r\n"), 400),
        ("name with a bracket", head("X[]: x\r\n"), 400),
        ("bare LF everywhere", b"GET / HTTP/1.1\nHost: h\n\n".to_vec(), 400),
        ("bare LF after the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n".to_vec(), 400),
        ("bare LF in a value", head("X: a\nContent-Length: 3\r\n"), 400),
        ("bare CR in a value", head("X: a\rb\r\n"), 400),
        ("NUL in a value", head("X: a\0b\r\n"), 400),
        ("NUL in a name", head("X\0: a\r\n"), 400),
        ("NUL in the target", line("GET /a\0b HTTP/1.1"), 400),
        ("DEL in a value", head("X: \x7f\r\n"), 400),
        ("Latin-1 value", b"GET / HTTP/1.1\r\nHost: h\r\nX: gr\xfcn\r\n\r\n".to_vec(), 400),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), 400),
        ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_vec(), 400),
        ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec(), 400),
        ("Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(), 400),
        ("Host with a user", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec(), 400),
        ("Host with a bad port", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_vec(), 400),
        ("Host list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_vec(), 400),
        ("two Hosts in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), 400),
        ("no version", b"GET /\r\n\r\n".to_vec(), 400),
        ("version XXX", line("GET / XXX"), 400),
        ("version HTTP/2.0", line("GET / HTTP/2.0"), 505),
        ("version HTTP/1.2", line("GET / HTTP/1.2"), 505),
        ("version HTTP/0.9", line("GET / HTTP/0.9"), 505),
        ("version http/1.1", line("GET / http/1.1"), 400),
        ("version HTTP/1.10", line("GET / HTTP/1.10"), 400),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        ("extra words", line("GET / x HTTP/1.1"), 400),
        ("words after the version", line("GET / HTTP/1.1 x"), 400),
        ("two spaces", line("GET  / HTTP/1.1"), 400),
        ("tab for space", line("GET\t/ HTTP/1.1"), 400),
        ("space before the method", line(" GET / HTTP/1.1"), 400),
        ("space after the version", line("GET / HTTP/1.1 "), 400),
        ("method G@T", line("G@T / HTTP/1.1"), 400),
        ("endless method", line(&format!("{} / HTTP/1.1", "A".repeat(25))), 400),
        ("CONNECT", line("CONNECT h:80 HTTP/1.1"), 501),
        ("relative target", line("GET a HTTP/1.1"), 400),
        ("asterisk for GET", line("GET * HTTP/1.1"), 400),
        ("absolute target with a user", line("GET http://u:p@h/ HTTP/1.1"), 400),
        ("absolute target without a host", line("GET http:/// HTTP/1.1"), 400),
        ("fragment", line("GET /a#b HTTP/1.1"), 400),
        ("UTF-8 target", line("GET /gr\u{fc}n HTTP/1.1"), 400),
        ("two empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("bare LF first", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 400),
        ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(), 400),
        ("expectation", head("Expect: 200-ok\r\n"), 417),
        ("two expectations", head("Expect: 100-continue\r\nExpect: 100-continue\r\n"), 417),
        ("target of 64 KiB", line(&format!("GET /{} HTTP/1.1", "a".repeat(65536))), 414),
        ("target one over its limit", line(&format!("GET /{} HTTP/1.1", "a".repeat(8192))), 414),
        ("header of 1 MiB", head(&format!("X: {}\r\n", "a".repeat(1 << 20))), 431),
        ("head over its limit", head(&format!("X: {}\r\n", "a".repeat(16 * 1024))), 431),
        ("65 fields", head(&many), 431),
        ("10 000 fields", head(&"X: y\r\n".repeat(10_000)), 431),
    ]
}

fn accepted() -> Vec<Vec<u8>> {
    let longest = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(8191));
    vec![
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"\r\nGET /a?b=c HTTP/1.1\r\nhost: h:80\r\nX:\r\nY:\t z \t\r\n\r\nrest".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET http://other:1/x?y HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 007\r\n\r\n1234567".to_vec(),
        b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n".to_vec(),
        "GET / HTTP/1.1\r\nHost: h\r\nX: gr\u{fc}n\r\n\r\n".as_bytes().to_vec(),
        longest.into_bytes(),
    ]
}

type Outcome = Result<Option<(RequestHead, usize)>, Error>;

/// Feeds growing prefixes, as a connection does, until there is a verdict.
fn feed(input: &[u8], mut cut: impl FnMut(usize) -> usize) -> Outcome {
    let mut end = 0;
    loop {
        end = (end + cut(input.len() - end)).min(input.len());
        let outcome = parse_request(&input[..end], &Limits::default());
        if outcome != Ok(None) || end == input.len() {
            return outcome;
        }
    }
}

#[test]
fn every_bad_head_is_refused_with_its_status() {
    for (name, input, status) in refused() {
        match parse_request(&input, &Limits::default()) {
            Err(error) => assert_eq!(error.status(), status, "{name}: {error}"),
            Ok(outcome) => panic!("{name}: accepted as {outcome:?}"),
        }
    }
}

#[test]
fn good_heads_are_accepted_with_their_length() {
    for input in accepted() {
        let (head, length) = parse_request(&input, &Limits::default()).unwrap().unwrap();
        assert!(input[..length].ends_with(b"\r\n\r\n"), "{head:?}");
    }
    let (head, _) = parse_request(&accepted()[1], &Limits::default()).unwrap().unwrap();
    assert_eq!((head.path(), head.query()), ("/a", Some("b=c")));
    assert_eq!(head.headers.iter().collect::<Vec<_>>(), [("host", "h:80"), ("X", ""), ("Y", "z")]);
    let (head, _) = parse_request(&accepted()[4], &Limits::default()).unwrap().unwrap();
    assert_eq!((head.path(), head.authority()), ("/x", Some("other:1")));
    let (head, _) = parse_request(&accepted()[5], &Limits::default()).unwrap().unwrap();
    assert_eq!((head.framing(), head.expects_continue()), (Ok(Framing::Length(7)), Ok(true)));
}

#[test]
fn persistence_follows_version_and_connection() {
    for (text, keeps) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        let (head, _) = parse_request(text.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(head.keeps_alive(), keeps, "{text:?}");
    }
}

#[test]
fn any_split_of_a_head_gives_the_same_verdict() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let inputs = accepted().into_iter().chain(refused().into_iter().map(|(_, input, _)| input));
    for input in inputs {
        let whole = parse_request(&input, &Limits::default());
        if input.len() < 600 {
            assert_eq!(feed(&input, |_| 1), whole, "{:?}", String::from_utf8_lossy(&input));
        }
        for _ in 0..20 {
            let most = if input.len() < 600 { 40 } else { 8000 };
            assert_eq!(feed(&input, |_| random.usize(1..most)), whole, "seed {seed}");
        }
    }
}

#[test]
fn no_mutation_of_a_message_panics() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut samples: Vec<Vec<u8>> = accepted();
    samples.extend(refused().into_iter().map(|(_, input, _)| input));
    samples.push(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".to_vec());
    samples.retain(|input| input.len() < 600);
    for round in 0..20_000 {
        let mut input = samples[random.usize(..samples.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..=input.len());
            match random.u8(..4) {
                0 if at < input.len() => input[at] = random.u8(..),
                1 if at < input.len() => drop(input.remove(at)),
                2 => input.insert(at, *random.choice(b"\r\n\0 :,;\t0aG%/*\xff").unwrap()),
                _ => input.truncate(at),
            }
        }
        if let Ok(Some((head, length))) = parse_request(&input, &Limits::default()) {
            // What was accepted means the same to whoever reads it after us.
            let mut written = Vec::new();
            encode_request(&head, &mut written).unwrap();
            let again = parse_request(&written, &Limits::default());
            assert_eq!(again, Ok(Some((head.clone(), written.len()))), "seed {seed} round {round}");
            let mut decoder = BodyDecoder::new(head.framing().unwrap());
            let _ = decoder.decode(&input[length..]);
        }
        let _ = parse_response(&input, &Limits::default());
        let _ = BodyDecoder::new(Framing::Chunked).decode(&input);
    }
}

#[test]
fn responses_are_read_with_the_same_strictness() {
    let parse = |text: &str| parse_response(text.as_bytes(), &Limits::default());
    let (head, length) = parse("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc").unwrap().unwrap();
    assert_eq!((head.status, length, head.framing(&Method::Get)), (200, 49, Ok(Framing::Length(3))));
    let (head, _) = parse("HTTP/1.0 404\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.status, head.version, head.keeps_alive()), (404, Version::Http10, false));
    assert_eq!(
        parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200").unwrap().map(|(head, at)| (head.status, at)),
        Some((100, 25))
    );
    assert_eq!(parse("HTTP/1.1 200 OK\r\nServer: x\r\n"), Ok(None));
    for bad in [
        "HTTP/1.1 200 OK\nContent-Length: 3\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 20 X\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}
