//! Our HTTP codec beside hyper's: it serves nothing that hyper does not, and understands it the same way.

mod generator;
mod oracle;
mod ours;
mod request;

use std::collections::BTreeMap;

use ioto::http1::Error;
use ioto_tests::seed;

use self::ours::End;

const CONNECTIONS: usize = 10_000;

#[test]
fn ten_thousand_connections_are_read_as_hyper_reads_them_or_more_strictly() {
    let mut random = fastrand::Rng::with_seed(seed());
    let (mut same, mut requests, mut stricter) = (0, 0, BTreeMap::<&str, usize>::new());
    for number in 0..CONNECTIONS {
        let bytes = generator::connection(&mut random);
        let shown = || format!("connection {number}:\n{}", bytes.escape_ascii());
        let (served, end) = ours::requests(&bytes);
        let expected = oracle::requests(&bytes);
        assert!(served.len() <= expected.len(), "hyper serves less ({}), {end:?}: {}", expected.len(), shown());
        for (ours, theirs) in served.iter().zip(&expected) {
            assert_eq!(ours, theirs, "{}", shown());
        }
        requests += served.len();
        if served.len() == expected.len() {
            same += 1;
            continue;
        }
        let reason = match end {
            End::Refused(error) => why(error).unwrap_or_else(|| panic!("{error:?} has no reason: {}", shown())),
            end => panic!("{end:?}, and hyper serves another request: {}", shown()),
        };
        *stricter.entry(reason).or_default() += 1;
    }
    println!("{requests} requests, {same} of {CONNECTIONS} connections read to the same end; stricter:");
    stricter.iter().for_each(|(reason, count)| println!("{count:6} {reason}"));
    assert!(requests > CONNECTIONS / 2, "too few requests are served to compare anything");
    assert!(stricter.len() > 10, "too few differences are tried");
}

/// Why a request is refused that hyper takes. What is not here is no accepted difference.
fn why(error: Error) -> Option<&'static str> {
    Some(match error {
        Error::Expectation => "RFC 9110 §10.1.1: an expectation that cannot be met is answered with 417",
        Error::NotImplemented("CONNECT: this is no proxy") => "CONNECT has no meaning for a server that is no proxy",
        Error::NotImplemented(_) => "a coding that is not undone would leave the end of the body open to guesses",
        Error::Malformed(what) => match what {
            "no Host" | "more than one Host" | "Host is not host or host:port" => {
                "RFC 9112 §3.2: exactly one valid Host, or a proxy in front may have meant another site"
            }
            "LF without CR" => "RFC 9112 §2.2 allows a bare LF; a proxy that does not would see other lines",
            "a header value is not UTF-8" => "values are text here; other bytes could be read in more than one way",
            "more than one Content-Length" | "both Content-Length and Transfer-Encoding" => {
                "RFC 9112 §6.3 lets a server choose; a proxy in front may choose otherwise"
            }
            "a chunk extension" | "a trailer field" => "what is dropped has to be well formed all the same",
            "a chunk size has too many digits" => "zeros before a size are endless otherwise",
            "a chunk size is not hexadecimal" => "RFC 9112 §7.1: no blank beside a size",
            "the method is not a token" => "longer methods than any that is registered",
            "the target * is for OPTIONS only" => "RFC 9112 §3.2.4",
            "the target is no path" => "RFC 9112 §3.2.3: host:port is for CONNECT only",
            "the target names no valid host" => "user names, odd schemes and empty hosts mean nothing here",
            "the target holds a byte that must be percent-encoded" => "RFC 3986 §2; a fragment never leaves a client",
            _ => return None,
        },
        _ => return None,
    })
}
