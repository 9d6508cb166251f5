//! Which precompressed variant of a file a client takes (RFC 9110 §12.5.3).

use crate::http1::Headers;

/// A way in which the bytes of a file are stored beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// The name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
        }
    }

    /// What is added to the file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
        }
    }
}

/// The encodings that the client takes and likes at least as much as the plain file, the best first. Between equals
/// brotli is first: it is smaller.
pub(super) fn accepted(request: &Headers) -> impl Iterator<Item = Encoding> {
    let (mut brotli, mut gzip, mut plain, mut rest) = (None, None, None, None);
    for item in request.get_all("accept-encoding").flat_map(|list| list.split(',')) {
        let (name, weight) = item.split_once(';').map_or((item, Some(1000)), |(name, text)| (name, quality(text)));
        let Some(weight) = weight else { continue };
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "br" => &mut brotli,
            "gzip" | "x-gzip" => &mut gzip,
            "identity" => &mut plain,
            "*" => &mut rest,
            _ => continue,
        };
        *place = Some(weight);
    }
    let brotli = brotli.or(rest).unwrap_or(0);
    let gzip = gzip.or(rest).unwrap_or(0);
    // The plain file is always acceptable; only when it is named it is weighed.
    let least = plain.unwrap_or(0).max(1);
    let mut all = [(Encoding::Brotli, brotli), (Encoding::Gzip, gzip)];
    if gzip > brotli {
        all.reverse();
    }
    all.into_iter().filter(move |(_, weight)| *weight >= least).map(|(encoding, _)| encoding)
}

/// A weight in thousandths (§12.4.2), nothing when it is malformed.
fn quality(text: &str) -> Option<u16> {
    let (name, value) = text.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(fields: &[&str]) -> String {
        let mut request = Headers::new();
        fields.iter().for_each(|value| request.append("Accept-Encoding", value).unwrap());
        accepted(&request).map(Encoding::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_client_gets_what_it_likes_best() {
        for (field, expected) in [
            ("gzip, deflate, br, zstd", "br gzip"),
            ("gzip", "gzip"),
            ("X-GZip", "gzip"),
            ("GZIP ; Q=0.5 , br ; q=0.4", "gzip br"),
            ("gzip;q=1.0, br;q=1", "br gzip"),
            ("gzip;q=0.001", "gzip"),
            ("*", "br gzip"),
            ("*;q=0.1, br;q=0", "gzip"),
            ("gzip, *;q=0", "gzip"),
            ("identity, gzip;q=0.5", ""),
            ("identity;q=0.5, gzip;q=0.5, br;q=0.4", "gzip"),
            ("identity;q=0", ""),
            ("", ""),
            ("deflate", ""),
            ("gzip;q=0", ""),
            ("gzip;q=0.000, br;q=0.", ""),
        ] {
            assert_eq!(names(&[field]), expected, "{field}");
        }
        assert_eq!(names(&[]), "");
        assert_eq!(names(&["gzip", "br;q=0.9"]), "gzip br");
    }

    #[test]
    fn what_is_malformed_is_not_accepted() {
        for field in [
            "gzip;q",
            "gzip;q=",
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=-1",
            "gzip;x=1",
            "gzip;q=.5",
            "g zip",
        ] {
            assert_eq!(names(&[field]), "", "{field}");
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let text: Vec<&str> = (0..random.usize(0..12))
                .map(|_| {
                    *random.choice(&["gzip", "br", ";", "q=", "0", "1", ".", ",", " ", "*", "identity", "é"]).unwrap()
                })
                .collect();
            let mut request = Headers::new();
            if request.append("Accept-Encoding", &text.concat()).is_ok() {
                assert!(accepted(&request).count() <= 2);
            }
        }
    }
}
