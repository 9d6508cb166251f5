//! How `ioto mqtt sub` shows a message: the formats of mosquitto_sub.

use std::time::{SystemTime, UNIX_EPOCH};

use ioto::mqtt::Message;
use ioto::net::{base64, iso8601, utc_ms};
use serde_json::{Map, Value, json};

use super::super::args::Usage;

/// A part of a line.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Payload,
    Length,
    Hex { upper: bool },
    Base64,
    QoS,
    Retain,
    Time,
    UnixTime,
    Json { parse: bool },
}

/// A format, as `%t %p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Format(Vec<Part>);

impl Format {
    /// Reads a format.
    ///
    /// # Errors
    /// A conversion or an escape that is not known.
    pub fn read(text: &str) -> Result<Self, Usage> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text.chars();
        while let Some(char) = rest.next() {
            let part = match (char, char == '%' || char == '\\') {
                ('%', _) => conversion(rest.next())?,
                ('\\', _) => Part::Text(vec![escape(rest.next())?]),
                (char, _) => Part::Text(char.encode_utf8(&mut [0; 4]).as_bytes().to_vec()),
            };
            match part {
                Part::Text(text) => plain.extend(text),
                part => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                }
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    /// A message in this format.
    pub fn line(&self, message: &Message) -> Vec<u8> {
        let mut line = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.extend_from_slice(text),
                Part::Topic => line.extend_from_slice(message.topic.as_bytes()),
                Part::Payload => line.extend_from_slice(&message.payload),
                Part::Length => line.extend(message.payload.len().to_string().bytes()),
                Part::Hex { upper } => message.payload.iter().for_each(|byte| {
                    line.extend(if *upper { format!("{byte:02X}") } else { format!("{byte:02x}") }.bytes());
                }),
                Part::Base64 => line.extend(base64::encode(&message.payload).bytes()),
                Part::QoS => line.extend(message.qos.number().to_string().bytes()),
                Part::Retain => line.push(if message.retain { b'1' } else { b'0' }),
                Part::Time => line.extend(iso8601(utc_ms()).bytes()),
                Part::UnixTime => {
                    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    line.extend(format!("{}.{:09}", since.as_secs(), since.subsec_nanos()).bytes());
                }
                Part::Json { parse } => line.extend(object(message, *parse).to_string().bytes()),
            }
        }
        line
    }
}

fn conversion(letter: Option<char>) -> Result<Part, Usage> {
    match letter {
        Some('%') => Ok(Part::Text(b"%".to_vec())),
        Some('t') => Ok(Part::Topic),
        Some('p') => Ok(Part::Payload),
        Some('l') => Ok(Part::Length),
        Some('x') => Ok(Part::Hex { upper: false }),
        Some('X') => Ok(Part::Hex { upper: true }),
        Some('b') => Ok(Part::Base64),
        Some('q') => Ok(Part::QoS),
        Some('r') => Ok(Part::Retain),
        Some('I') => Ok(Part::Time),
        Some('U') => Ok(Part::UnixTime),
        Some('j') => Ok(Part::Json { parse: false }),
        Some('J') => Ok(Part::Json { parse: true }),
        other => Err(Usage(format!(
            "-F: `%{}` is not known; %t topic, %p payload, %l its length, %x %X hexadecimal, %b base64, %q QoS, %r retained, \
             %I time, %U seconds since 1970, %j %J JSON, %%",
            other.map(String::from).unwrap_or_default()
        ))),
    }
}

fn escape(letter: Option<char>) -> Result<u8, Usage> {
    match letter {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('a') => Ok(7),
        Some('e') => Ok(27),
        Some('v') => Ok(11),
        other => {
            Err(Usage(format!("-F: `\\{}` is not known; \\n \\r \\t \\0 \\\\ \\a \\e \\v are", other.unwrap_or(' '))))
        }
    }
}

/// As mosquitto_sub: `%j` has the payload as a text, `%J` as the JSON that it is.
fn object(message: &Message, parse: bool) -> Value {
    let payload = match parse {
        true => serde_json::from_slice(&message.payload).unwrap_or(Value::Null),
        false => String::from_utf8_lossy(&message.payload).into(),
    };
    let members = [
        ("tst", Value::from(iso8601(utc_ms()))),
        ("topic", message.topic.as_str().into()),
        ("qos", message.qos.number().into()),
        ("retain", u8::from(message.retain).into()),
        ("payloadlen", message.payload.len().into()),
        ("payload", payload),
    ];
    json!(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ioto::mqtt::QoS;

    fn shown(format: &str) -> String {
        let message = Message { retain: true, ..Message::new("a/b", "\u{e4}1", QoS::AtLeastOnce) };
        String::from_utf8(Format::read(format).unwrap().line(&message)).unwrap()
    }

    #[test]
    fn formats_are_those_of_mosquitto_sub() {
        assert_eq!(shown("%t %p %q %r %l"), "a/b \u{e4}1 1 1 3");
        assert_eq!(shown("100%% %x|%X|%b\\t\\n\u{20ac}"), "100% c3a431|C3A431|w6Qx\t\n\u{20ac}");
        assert_eq!(shown(""), "");
        let json: Value = serde_json::from_str(&shown("%j")).unwrap();
        assert_eq!((json["topic"].as_str(), json["payloadlen"].as_u64()), (Some("a/b"), Some(3)));
        assert_eq!(json["payload"], "\u{e4}1");
        assert!(shown("%I").starts_with("20") && shown("%U").contains('.'));
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for text in ["%", "%z", "\\", "\\q"] {
            assert!(Format::read(text).is_err(), "{text}");
        }
    }
}
