//! What a certificate says of its holder: names, fingerprint, time. A strict reader for the few fields that are needed; that
//! the certificate is genuine was verified before, by rustls.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};

use super::clock::parse_iso8601;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// Names of one kind that are read; nobody has more.
const NAMES: usize = 1000;

mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BITS: u8 = 0x03;
    pub const OCTETS: u8 = 0x04;
    pub const IDENTIFIER: u8 = 0x06;
    pub const UTF8: u8 = 0x0c;
    pub const PRINTABLE: u8 = 0x13;
    pub const IA5: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    pub const EMAIL: u8 = 0x81;
    pub const DNS: u8 = 0x82;
    pub const VERSION: u8 = 0xa0;
    pub const ISSUER_ID: u8 = 0x81;
    pub const SUBJECT_ID: u8 = 0x82;
    pub const EXTENSIONS: u8 = 0xa3;
}

/// Whose certificate it is, and how long it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The common name of the subject; `None` also when it has several.
    pub common_name: Option<String>,
    /// The e-mail addresses among the alternative names.
    pub emails: Vec<String>,
    /// The host names among the alternative names, perhaps with `*` as their first label.
    pub dns_names: Vec<String>,
    /// The SHA-256 of the whole certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Holder {
    /// Reads a certificate (X.509, DER). `None`: it is malformed, or a name in it holds control characters.
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let mut file = Reader(certificate);
        let mut whole = Reader(file.take(tag::SEQUENCE)?);
        file.end()?;
        let mut fields = Reader(whole.take(tag::SEQUENCE)?);
        whole.take(tag::SEQUENCE)?;
        whole.take(tag::BITS)?;
        whole.end()?;

        fields.optional(tag::VERSION)?;
        fields.take(tag::INTEGER)?;
        fields.take(tag::SEQUENCE)?;
        fields.take(tag::SEQUENCE)?;
        let mut times = Reader(fields.take(tag::SEQUENCE)?);
        let (not_before, not_after) = (times.time()?, times.time()?);
        times.end()?;
        let common_name = common_name(fields.take(tag::SEQUENCE)?)?;
        fields.take(tag::SEQUENCE)?;
        fields.optional(tag::ISSUER_ID)?;
        fields.optional(tag::SUBJECT_ID)?;
        let (emails, dns_names) = match fields.optional(tag::EXTENSIONS)? {
            Some(extensions) => alternative_names(extensions)?,
            None => Default::default(),
        };
        fields.end()?;
        Some(Self { common_name, emails, dns_names, fingerprint: fingerprint(certificate), not_before, not_after })
    }

    /// Whether it is valid now, by the device's clock.
    pub fn is_current(&self) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (self.not_before..=self.not_after).contains(&i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// The names that the certificate may be known by, the most telling one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.common_name.iter().chain(&self.emails).chain(&self.dns_names).map(String::as_str)
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The common name of a subject. One that is ambiguous or in an encoding of old is as if it were not there.
fn common_name(subject: &[u8]) -> Option<Option<String>> {
    let (mut found, mut count, mut subject) = (None, 0, Reader(subject));
    while !subject.is_empty() {
        let mut set = Reader(subject.take(tag::SET)?);
        while !set.is_empty() {
            let mut attribute = Reader(set.take(tag::SEQUENCE)?);
            let kind = attribute.take(tag::IDENTIFIER)?;
            let (encoding, value) = attribute.next()?;
            attribute.end()?;
            if kind == COMMON_NAME {
                count += 1;
                if matches!(encoding, tag::UTF8 | tag::PRINTABLE | tag::IA5) {
                    found = Some(name(value)?);
                }
            }
        }
    }
    Some(found.filter(|_| count == 1))
}

/// E-mail addresses and host names.
fn alternative_names(extensions: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let mut outer = Reader(extensions);
    let mut extensions = Reader(outer.take(tag::SEQUENCE)?);
    outer.end()?;
    let mut all = None;
    while !extensions.is_empty() {
        let mut extension = Reader(extensions.take(tag::SEQUENCE)?);
        let kind = extension.take(tag::IDENTIFIER)?;
        extension.optional(tag::BOOLEAN)?;
        let value = extension.take(tag::OCTETS)?;
        extension.end()?;
        // Twice would be two truths.
        if kind == ALTERNATIVE_NAMES && all.replace(names(value)?).is_some() {
            return None;
        }
    }
    Some(all.unwrap_or_default())
}

fn names(value: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let mut outer = Reader(value);
    let mut names = Reader(outer.take(tag::SEQUENCE)?);
    outer.end()?;
    let (mut emails, mut dns_names) = (Vec::new(), Vec::new());
    while !names.is_empty() {
        let (kind, value) = names.next()?;
        let list = match kind {
            tag::EMAIL => &mut emails,
            tag::DNS => &mut dns_names,
            _ => continue,
        };
        if list.len() == NAMES || !value.is_ascii() {
            return None;
        }
        list.push(name(value)?);
    }
    Some((emails, dns_names))
}

/// A name that reads the same everywhere: no NUL that ends it early, nothing that writes a second line into a log.
fn name(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Reads DER: definite lengths in their shortest form, tags of one byte.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The next element: its tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                let shortest = if length < 0x80 { return None } else { length.ilog2() as usize / 8 + 1 };
                if shortest != bytes.len() {
                    return None;
                }
                length
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it has this tag; the outer `None`: it is malformed.
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.0.first() {
            Some(found) if *found == tag => self.take(tag).map(Some),
            _ => Some(None),
        }
    }

    /// A time in the two forms that certificates may have (RFC 5280 §4.1.2.5), in seconds since 1970.
    fn time(&mut self) -> Option<i64> {
        let (tag, content) = self.next()?;
        let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let full = match (tag, digits.len()) {
            (tag::UTC_TIME, 12) => format!("{}{digits}", if digits < "5" { "20" } else { "19" }),
            (tag::TIME, 14) => digits.to_owned(),
            _ => return None,
        };
        let part = |from: usize, to: usize| full.get(from..to).unwrap_or_default();
        let [month, day, hour, minute, second] = [4, 6, 8, 10, 12].map(|at| part(at, at + 2));
        Some(parse_iso8601(&format!("{}-{month}-{day}T{hour}:{minute}:{second}Z", part(0, 4)))?.div_euclid(1000))
    }
}

#[cfg(all(test, feature = "web"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Plant 7");
        params.distinguished_name.push(DnType::CommonName, "jo");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2050, 1, 1);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_times_and_fingerprint_are_read() {
        let der = certificate(|params| {
            params.subject_alt_names = vec![
                SanType::Rfc822Name("jo@example.com".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
                SanType::DnsName("*.example.com".try_into().unwrap()),
                SanType::URI("urn:x".try_into().unwrap()),
            ];
        });
        let holder = Holder::read(&der).unwrap();
        assert_eq!(holder.names().collect::<Vec<_>>(), ["jo", "jo@example.com", "*.example.com"]);
        assert_eq!((holder.not_before, holder.not_after), (1_709_164_800, 2_524_608_000));
        assert!(holder.is_current());
        assert_eq!(holder.fingerprint.len(), 64);
        let bare = Holder::read(&certificate(|params| params.not_after = date_time_ymd(2024, 3, 1))).unwrap();
        assert!(bare.emails.is_empty() && !bare.is_current() && bare.fingerprint != holder.fingerprint);
    }

    #[test]
    fn a_name_that_could_mean_two_things_is_none() {
        let both = certificate(|params| params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "mo"));
        assert_eq!(Holder::read(&both).unwrap().common_name, None);
        for bad in ["jo\0.evil", "jo\nnext line", "jo\u{85}", ""] {
            let der = certificate(|params| params.distinguished_name.push(DnType::CommonName, bad));
            assert_eq!(Holder::read(&der), None, "{bad:?}");
        }
        let names = [0x30, 4, 0x82, 2, b'a', 0];
        let twice = |names: &[u8]| CustomExtension::from_oid_content(&[2, 5, 29, 17], names.to_vec());
        assert_eq!(Holder::read(&certificate(|params| params.custom_extensions = vec![twice(&names)])), None);
        let names = [0x30, 3, 0x82, 1, b'a'];
        let der = certificate(|params| params.custom_extensions = vec![twice(&names)]);
        assert_eq!(Holder::read(&der).unwrap().dns_names, ["a"]);
        let der = certificate(|params| params.custom_extensions = vec![twice(&names), twice(&names)]);
        assert_eq!(Holder::read(&der), None);
    }

    #[test]
    fn whatever_is_cut_or_changed_neither_panics_nor_grows() {
        let der = certificate(|params| {
            params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())];
        });
        for end in 0..der.len() {
            assert_eq!(Holder::read(&der[..end]), None, "cut at {end}");
        }
        assert_eq!(Holder::read(&[&der[..], &[0]].concat()), None);
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut changed = der.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            if let Some(holder) = Holder::read(&changed) {
                assert!(holder.names().all(|name| !name.chars().any(char::is_control)));
            }
        }
    }

    #[test]
    fn lengths_have_one_form() {
        for (bytes, expected) in [
            (&[0x04, 1, 7][..], true),
            (&[0x04, 0x81, 1, 7], false),
            (&[0x04, 0x80, 0, 0], false),
            (&[0x04, 0x84, 0, 0, 0, 1, 7], false),
            (&[0x04, 0x82, 0, 1, 7], false),
            (&[0x1f, 1, 7], false),
            (&[0x04, 2, 7], false),
            (&[0x04], false),
        ] {
            assert_eq!(Reader(bytes).next().is_some(), expected, "{bytes:?}");
        }
        let long = [&[0x04, 0x81, 0x80][..], &[0; 128]].concat();
        assert_eq!(Reader(&long).next().unwrap().1.len(), 128);
        let longer = [&[0x04, 0x82, 1, 0][..], &[0; 256]].concat();
        assert_eq!(Reader(&longer).next().unwrap().1.len(), 256);
    }
}
