//! Takes a multipart body apart (RFC 2046 §5.1, RFC 7578). No I/O: bytes in, parts out.

use super::media::Parameterized;
use crate::http1::Headers;

/// Characters of a boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;
/// Bytes of the header fields of one part.
const MAX_HEAD: usize = 4096;
/// Header fields of one part.
const MAX_FIELDS: usize = 16;
/// Bytes before the first part, for which there is no use.
const MAX_PREAMBLE: usize = 4096;
/// Blanks between a boundary and the end of its line.
const MAX_PADDING: usize = 256;
/// With so many bytes that are not used up, the next call finds something, or refuses them.
pub(super) const ENOUGH: usize = MAX_HEAD + 4;

/// What is wrong with a body, in words for the client.
pub(super) type Malformed = &'static str;

/// A parser of one body. It keeps no data, only its place.
#[derive(Debug)]
pub(super) struct Multipart {
    /// CR LF, two dashes and the boundary.
    delimiter: Vec<u8>,
    state: State,
    skipped: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte, where a delimiter needs no line end before it.
    Start,
    Preamble,
    /// Behind a delimiter.
    Boundary,
    Head,
    Data,
    Done,
}

/// What stands at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing yet; the first `used` bytes are used up, and more input is needed.
    More { used: usize },
    /// A part begins, after `used` bytes.
    Part { used: usize, head: PartHead },
    /// The first `length` bytes are payload of the part, never 0.
    Data { length: usize },
    /// The part is complete, and `used` bytes of the delimiter are used up.
    PartEnd { used: usize },
    /// The body is complete. What follows has no meaning.
    End,
}

/// What a part says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    pub name: String,
    /// The name that the client's file has there. Never a path here.
    pub file_name: Option<String>,
    pub content_type: Option<String>,
}

impl Multipart {
    /// A parser for bodies of this type: `multipart/form-data; boundary=…`.
    pub fn new(media: &Parameterized<'_>) -> Result<Self, Malformed> {
        let boundary = media.get("boundary").ok_or("the content type names no boundary")?;
        let is_boundary = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if !(1..=MAX_BOUNDARY).contains(&boundary.len())
            || !boundary.bytes().all(is_boundary)
            || boundary.ends_with(' ')
        {
            return Err("the boundary is not one of 1 to 70 allowed characters");
        }
        Ok(Self { delimiter: [b"\r\n--", boundary.as_bytes()].concat(), state: State::Start, skipped: 0 })
    }

    /// Looks at what was received and is not used up. Call it with what follows the bytes that are used up, and when it wants
    /// more with more behind that; it never wants more when there are [`ENOUGH`].
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        match self.state {
            State::Start => self.start(input),
            State::Preamble => self.preamble(input),
            State::Boundary => self.boundary(input),
            State::Head => self.head(input),
            State::Data => Ok(self.data(input)),
            State::Done => Ok(Step::End),
        }
    }

    fn start(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let first = self.delimiter.get(2..).unwrap_or_default();
        if input.starts_with(first) {
            let used = first.len();
            self.state = State::Boundary;
            return Ok(Step::More { used });
        }
        if first.starts_with(input) {
            return Ok(Step::More { used: 0 });
        }
        self.state = State::Preamble;
        self.preamble(input)
    }

    fn preamble(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let (used, is_found) = find(input, &self.delimiter);
        self.skipped += used;
        if self.skipped > MAX_PREAMBLE {
            return Err("the body does not begin with its boundary");
        }
        if !is_found {
            return Ok(Step::More { used });
        }
        self.state = State::Boundary;
        Ok(Step::More { used: used + self.delimiter.len() })
    }

    /// Behind a delimiter: another part, or two dashes and the end. Anything else means that the boundary stands in the data,
    /// which it must not (RFC 2046 §5.1.1).
    fn boundary(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        if input.starts_with(b"--") {
            self.state = State::Done;
            return Ok(Step::End);
        }
        let blanks = input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if blanks > MAX_PADDING {
            return Err("a boundary is followed by too many blanks");
        }
        match input.get(blanks..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                self.state = State::Head;
                Ok(Step::More { used: blanks + 2 })
            }
            [] | [b'\r'] => Ok(Step::More { used: 0 }),
            [b'-'] if blanks == 0 => Ok(Step::More { used: 0 }),
            _ => Err("a boundary is followed by something else than a line end"),
        }
    }

    fn head(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let end = match input.starts_with(b"\r\n") {
            true => Some(0),
            false => input.windows(4).take(MAX_HEAD).position(|four| four == b"\r\n\r\n").map(|at| at + 2),
        };
        let Some(end) = end else {
            return match input.len() >= ENOUGH {
                true => Err("the head of a part is too large"),
                false => Ok(Step::More { used: 0 }),
            };
        };
        let head = PartHead::parse(input.get(..end).unwrap_or_default())?;
        self.state = State::Data;
        Ok(Step::Part { used: end + 2, head })
    }

    fn data(&mut self, input: &[u8]) -> Step {
        let (length, is_found) = find(input, &self.delimiter);
        match (length, is_found) {
            (0, true) => {
                self.state = State::Boundary;
                Step::PartEnd { used: self.delimiter.len() }
            }
            (0, false) => Step::More { used: 0 },
            (length, _) => Step::Data { length },
        }
    }
}

impl PartHead {
    /// Parses the lines of a head, each with its CR LF.
    fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).map_err(|_| "the head of a part is not UTF-8")?;
        let mut fields = Headers::new();
        for line in text.split_terminator("\r\n") {
            let (name, value) = line.split_once(':').ok_or("a line without a colon in the head of a part")?;
            if fields.len() == MAX_FIELDS {
                return Err("the head of a part has too many fields");
            }
            fields.append(name, value.trim_matches([' ', '\t'])).map_err(|_| "a bad field in the head of a part")?;
        }
        if ["content-disposition", "content-type"].iter().any(|name| fields.get_all(name).count() > 1) {
            return Err("a field stands twice in the head of a part");
        }
        // RFC 7578 §4.7: nobody sends them encoded any more, and what is not decoded must not pass for data.
        let encoding = fields.get("content-transfer-encoding").unwrap_or("binary");
        if !["binary", "8bit", "7bit"].iter().any(|known| known.eq_ignore_ascii_case(encoding)) {
            return Err("a part has a content transfer encoding");
        }
        let disposition = fields.get("content-disposition").ok_or("a part without Content-Disposition")?;
        let disposition = Parameterized::parse(disposition).ok_or("a malformed Content-Disposition")?;
        if !disposition.is("form-data") {
            return Err("a part that is not form-data");
        }
        let name = disposition.get("name").ok_or("a part without a name")?.to_owned();
        let file_name = disposition.get("filename").map(str::to_owned);
        Ok(Self { name, file_name, content_type: fields.get("content-type").map(str::to_owned) })
    }
}

/// How many bytes stand before the first `pattern`, and whether it is there. When it is not, the bytes that could be its
/// beginning are not counted.
fn find(input: &[u8], pattern: &[u8]) -> (usize, bool) {
    let mut at = 0;
    // The pattern begins with CR and holds no other: a failed match cannot hide the beginning of another one.
    while let Some(next) = input.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\r')) {
        at += next;
        let rest = input.get(at..).unwrap_or_default();
        if rest.starts_with(pattern) {
            return (at, true);
        }
        if pattern.starts_with(rest) {
            return (at, false);
        }
        at += 1;
    }
    (input.len(), false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Parts = Vec<(PartHead, Vec<u8>)>;

    fn parser(boundary: &str) -> Result<Multipart, Malformed> {
        let text = format!("multipart/form-data; boundary=\"{boundary}\"");
        Multipart::new(&Parameterized::parse(&text).unwrap())
    }

    /// Feeds the pieces; `None` when the body does not end.
    fn parse(boundary: &str, pieces: &[&[u8]]) -> Result<Option<Parts>, Malformed> {
        let mut parser = parser(boundary)?;
        let (mut input, mut parts, mut open) = (Vec::new(), Parts::new(), false);
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match parser.step(&input)? {
                    Step::More { used: 0 } => {
                        assert!(input.len() < ENOUGH, "{} bytes are kept", input.len());
                        break;
                    }
                    Step::More { used } => drop(input.drain(..used)),
                    Step::Part { used, head } => {
                        assert!(!open);
                        open = true;
                        input.drain(..used);
                        parts.push((head, Vec::new()));
                    }
                    Step::Data { length } => {
                        assert!(open && length > 0);
                        parts.last_mut().unwrap().1.extend(input.drain(..length));
                    }
                    Step::PartEnd { used } => {
                        assert!(std::mem::take(&mut open));
                        input.drain(..used);
                    }
                    Step::End => {
                        assert!(!open);
                        return Ok(Some(parts));
                    }
                }
            }
        }
        Ok(None)
    }

    fn head(name: &str) -> PartHead {
        PartHead { name: name.into(), file_name: None, content_type: None }
    }

    const BODY: &str = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--B  \r\n\
        content-type: text/plain\r\nContent-Disposition: form-data; filename=\"../x\"; name=f\r\n\r\n\r\n--\r\n-B\r\r\n--B--\r\nrest";

    #[test]
    fn parts_come_out_as_they_were_put_in() {
        let parts = parse("B", &[BODY.as_bytes()]).unwrap().unwrap();
        let file =
            PartHead { name: "f".into(), file_name: Some("../x".into()), content_type: Some("text/plain".into()) };
        assert_eq!(parts, [(head("a"), b"one".to_vec()), (file, b"\r\n--\r\n-B\r".to_vec())]);
        assert_eq!(parse("B", &[b"preamble\r\n--B--"]).unwrap().unwrap(), []);
        let empty = parse("B", &[b"--B\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n--B--"]).unwrap().unwrap();
        assert_eq!(empty, [(head("x"), vec![])]);
    }

    #[test]
    fn malformed_bodies_are_refused_and_cut_ones_are_not_complete() {
        let part = "--B\r\nContent-Disposition: form-data; name=x\r\n";
        let long = "x".repeat(MAX_HEAD + 10);
        for body in [
            "--BX\r\n".to_owned(),
            "--B \x0bX\r\n".into(),
            format!("{part}\r\ndata\r\n--Bx\r\n"),
            format!("--B{}\r\n", " ".repeat(300)),
            format!("--B\r\n{long}"),
            format!("{long}\r\n--B\r\n"),
            "--B\r\n\r\ndata\r\n--B--".into(),
            "--B\r\nContent-Type: a/b\r\n\r\n".into(),
            "--B\r\nContent-Disposition: attachment; name=x\r\n\r\n".into(),
            "--B\r\nContent-Disposition: form-data\r\n\r\n".into(),
            "--B\r\nContent-Disposition: form-data; name=x; name=y\r\n\r\n".into(),
            format!("{part}Content-Disposition: form-data; name=y\r\n\r\n"),
            format!("{part} folded\r\n\r\n"),
            format!("{part}Content-Transfer-Encoding: base64\r\n\r\n"),
            format!("{part}A: b\nC: d\r\n\r\n"),
            format!("{part}{}\r\n", "A: b\r\n".repeat(16)),
        ] {
            assert!(parse("B", &[body.as_bytes()]).is_err(), "{body:?}");
        }
        for body in ["", "--", "--B", "--B-", part, &format!("{part}\r\ndata\r\n--B"), &format!("{part}\r\n--B--")] {
            assert_eq!(parse("B", &[body.as_bytes()]), Ok(None), "{body:?}");
        }
    }

    #[test]
    fn boundaries_have_1_to_70_characters_of_a_few() {
        assert!(parser(&"b".repeat(70)).is_ok() && parser("a b'()+_,-./:=?").is_ok());
        for bad in ["", &"b".repeat(71), "a ", "a\u{e4}", "a*b", "a\tb"] {
            assert!(parser(bad).is_err(), "{bad:?}");
        }
        assert!(Multipart::new(&Parameterized::parse("multipart/form-data").unwrap()).is_err());
    }

    fn pieces<'a>(mut rest: &'a [u8], longest: usize, random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(random.usize(1..=rest.len().min(longest)));
            pieces.push(piece);
            rest = left;
        }
        pieces
    }

    fn seed() -> u64 {
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        seed
    }

    #[test]
    fn any_split_of_a_body_gives_the_same_parts() {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let boundary: String =
                (0..random.usize(1..=70)).map(|_| char::from(*random.choice(b"aB-'".iter()).unwrap())).collect();
            let (mut body, mut expected) = (Vec::new(), Parts::new());
            if random.bool() {
                body.extend_from_slice(b"preamble\r\n");
            }
            for number in 0..random.usize(0..5) {
                // Bytes of which delimiters are made, so that they nearly stand in the data.
                let mut data: Vec<u8> =
                    (0..random.usize(0..300)).map(|_| *random.choice(b"\r\n-aB'".iter()).unwrap()).collect();
                let delimiter = format!("\r\n--{boundary}").into_bytes();
                loop {
                    match find(&[&data[..], &delimiter].concat(), &delimiter).0 {
                        at if at < data.len() => data.remove(at),
                        _ => break,
                    };
                }
                let text = format!("--{boundary}\r\nContent-Disposition: form-data; name=n{number}\r\n\r\n");
                body.extend_from_slice(text.as_bytes());
                body.extend_from_slice(&data);
                body.extend_from_slice(b"\r\n");
                expected.push((head(&format!("n{number}")), data));
            }
            body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            let longest = *random.choice([1, 7, 200].iter()).unwrap();
            let split = pieces(&body, longest, &mut random);
            let text = String::from_utf8_lossy(&body);
            assert_eq!(parse(&boundary, &split), Ok(Some(expected)), "seed {seed}: {text:?}");
        }
    }

    #[test]
    fn a_mutated_body_is_read_the_same_in_any_split() {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5000 {
            let mut body = BODY.as_bytes().to_vec();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..body.len().max(1));
                match random.u8(..4) {
                    0 => body[at] = random.u8(..),
                    1 if body.len() > 1 => drop(body.remove(at)),
                    2 => body.insert(at, *random.choice(b"\r\n-B:;\"\0".iter()).unwrap()),
                    _ => body.truncate(at.max(1)),
                }
            }
            let whole = parse("B", &[&body]);
            let split = parse("B", &pieces(&body, 9, &mut random));
            assert_eq!(whole, split, "seed {seed}: {:?}", String::from_utf8_lossy(&body));
        }
    }
}
