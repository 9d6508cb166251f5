//! `-w`: what is written about a transfer when it has ended.

use std::time::Duration;

/// What is known of a transfer.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub url: String,
    pub method: String,
    pub status: u16,
    pub content_type: String,
    pub sent: u64,
    pub received: u64,
    pub first: Duration,
    pub total: Duration,
    pub exit: u8,
}

/// A format with its variables found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(&'static str),
}

const VARIABLES: [&str; 11] = [
    "http_code",
    "response_code",
    "content_type",
    "url_effective",
    "method",
    "size_upload",
    "size_download",
    "speed_download",
    "time_starttransfer",
    "time_total",
    "exitcode",
];

impl Format {
    /// `%{name}`, `%%`, `\n`, `\r`, `\t` and `\\`; the rest is text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(next) = rest.chars().next() {
            let escaped = match (next, rest.chars().nth(1)) {
                ('\\', Some('n')) => Some('\n'),
                ('\\', Some('r')) => Some('\r'),
                ('\\', Some('t')) => Some('\t'),
                ('\\', Some('\\')) => Some('\\'),
                ('%', Some('%')) => Some('%'),
                _ => None,
            };
            if let Some(character) = escaped {
                plain.push(character);
                rest = &rest[2..];
            } else if let Some((name, behind)) = rest.strip_prefix("%{").and_then(|name| name.split_once('}')) {
                let known = VARIABLES.iter().find(|known| **known == name);
                let known =
                    known.ok_or_else(|| format!("-w: there is no %{{{name}}}, but {}", VARIABLES.join(", ")))?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Variable(known));
                rest = behind;
            } else {
                plain.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// With the figures in their places.
    pub fn fill(&self, figures: &Figures) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(name) => figures.value(name),
        });
        pieces.collect()
    }
}

impl Figures {
    fn value(&self, name: &str) -> String {
        let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
        match name {
            "http_code" | "response_code" => format!("{:03}", self.status),
            "content_type" => self.content_type.clone(),
            "url_effective" => self.url.clone(),
            "method" => self.method.clone(),
            "size_upload" => self.sent.to_string(),
            "size_download" => self.received.to_string(),
            "speed_download" => format!("{:.0}", self.received as f64 / self.total.as_secs_f64().max(1e-6)),
            "time_starttransfer" => seconds(self.first),
            "time_total" => seconds(self.total),
            "exitcode" => self.exit.to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let figures = Figures {
            status: 7,
            received: 3,
            total: Duration::from_millis(1500),
            url: "http://h/".into(),
            ..Figures::default()
        };
        let fill = |text: &str| Format::parse(text).unwrap().fill(&figures);
        assert_eq!(fill("%{http_code} %{size_download}\\n"), "007 3\n");
        assert_eq!(fill("%{time_total}\\t%{speed_download} %{url_effective}"), "1.500000\t2 http://h/");
        assert_eq!(fill("100 %% %x \\x \u{fc}%{exitcode"), "100 % %x \\x \u{fc}%{exitcode");
        assert!(Format::parse("%{colour}").is_err());
    }
}
