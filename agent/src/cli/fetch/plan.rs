//! What the options mean together.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use ioto::fetch::{Exceptions, Proxies};
use ioto::http1::Method;

use super::data::{Data, read_file};
use super::failure::Failure;
use super::proxies;
use super::write_out::Format;
use crate::cli::args::Args;
use crate::cli::password;

/// All that the options say of the transfers.
#[derive(Debug)]
pub struct Plan {
    pub urls: Vec<String>,
    pub method: Method,
    pub headers: Vec<(String, String)>,
    pub data: Data,
    /// Name and password.
    pub user: Option<(String, String)>,
    pub digest: bool,
    /// The service to sign for, and the region if it is another than that of the configuration.
    pub sigv4: Option<(String, Option<String>)>,
    pub follow: bool,
    pub output: Output,
    pub resume: Option<Resume>,
    pub compressed: bool,
    pub rate: Option<u64>,
    pub include: bool,
    pub fail: bool,
    pub quiet: bool,
    pub complains: bool,
    pub verbose: bool,
    pub write_out: Option<Format>,
    pub max_time: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub retries: u8,
    pub repeat: u64,
    pub proxies: Proxies,
    /// Hosts that are reached without them.
    pub direct: Exceptions,
}

/// Where the body of a response goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Standard,
    File(PathBuf),
    /// A file in the current directory, with the last name of the URL.
    Remote,
}

/// Where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    At(u64),
    /// At the end of the file.
    End,
}

impl Plan {
    /// Reads the options, and the files that they name.
    pub fn read(args: &Args) -> Result<Self, Failure> {
        let mut data = Data::read(args)?;
        let mut urls: Vec<String> = args.words.iter().map(|url| with_scheme(url)).collect();
        if urls.is_empty() {
            return Err(Failure::usage("expected a URL"));
        }
        if args.flag("get") {
            let query = data.take_query()?;
            urls.iter_mut().for_each(|url| add_query(url, &query));
        }
        if let Data::File(path) = &data {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            urls.iter_mut().filter(|url| url.ends_with('/')).for_each(|url| url.push_str(&name));
        }
        let method = match text(args, "request")? {
            Some(name) => name.parse().map_err(|_| Failure::usage(format!("-X {name}: this is no method")))?,
            None if args.flag("head") => Method::Head,
            None => data.method().parse().map_err(|_| Failure::usage("no method"))?,
        };
        let output = match (args.value("output"), args.flag("remote-name")) {
            (Some(_), true) => return Err(Failure::usage("either -o or -O")),
            (Some(file), false) if file == "-" => Output::Standard,
            (Some(file), false) => Output::File(file.into()),
            (None, true) => Output::Remote,
            (None, false) => Output::Standard,
        };
        let repeat = number(args, "repeat")?.unwrap_or(1);
        if repeat > 1 && matches!(data, Data::Input) {
            return Err(Failure::usage("--repeat: the standard input can be sent once"));
        }
        let (proxies, direct) = proxies::read(args, proxies::variable)?;
        Ok(Self {
            urls,
            method,
            headers: headers(args, &data)?,
            user: credentials(args, "user")?,
            digest: args.flag("digest"),
            sigv4: text(args, "sigv4")?.map(|service| match service.split_once('/') {
                Some((service, region)) => (service.to_owned(), Some(region.to_owned())),
                None => (service.to_owned(), None),
            }),
            follow: args.flag("location"),
            resume: resume(args, &output)?,
            output,
            compressed: args.flag("compressed"),
            rate: text(args, "limit-rate")?.map(speed).transpose()?,
            include: args.flag("include") || args.flag("head"),
            fail: args.flag("fail"),
            quiet: args.flag("silent"),
            complains: !args.flag("silent") || args.flag("show-error"),
            verbose: args.flag("verbose"),
            write_out: text(args, "write-out")?.map(Format::parse).transpose().map_err(Failure::usage)?,
            max_time: seconds(args, "max-time")?,
            connect_timeout: seconds(args, "connect-timeout")?,
            retries: u8::try_from(number(args, "retry")?.unwrap_or(0)).unwrap_or(u8::MAX),
            repeat,
            proxies,
            direct,
            data,
        })
    }
}

impl Plan {
    /// Whether bodies of responses go where people read.
    pub fn writes_to_terminal(&self) -> bool {
        self.output == Output::Standard && std::io::stdout().is_terminal()
    }
}

/// The value of an option, as text.
pub(super) fn text<'a>(args: &'a Args, name: &str) -> Result<Option<&'a str>, Failure> {
    let value = args.value(name).map(|value| value.to_str().ok_or(value));
    value.transpose().map_err(|value| Failure::usage(format!("--{name}: {value:?} is not UTF-8")))
}

fn number(args: &Args, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = text(args, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::usage(format!("--{name}: expected a number, found {text:?}")))
}

/// 0 is as good as no limit.
fn seconds(args: &Args, name: &str) -> Result<Option<Duration>, Failure> {
    let seconds = args.seconds(name).map_err(|usage| Failure::usage(usage.0))?;
    Ok(seconds.filter(|seconds| !seconds.is_zero()))
}

fn with_scheme(url: &str) -> String {
    match url.contains("://") {
        true => url.to_owned(),
        false => format!("http://{url}"),
    }
}

fn add_query(url: &mut String, query: &str) {
    if query.is_empty() {
        return;
    }
    let end = url.find('#').unwrap_or(url.len());
    let mark = if url[..end].contains('?') { '&' } else { '?' };
    url.insert_str(end, &format!("{mark}{query}"));
}

fn headers(args: &Args, data: &Data) -> Result<Vec<(String, String)>, Failure> {
    let mut headers = Vec::new();
    if let Some(kind) = data.content_type() {
        headers.push(("Content-Type".to_owned(), kind.to_owned()));
        if kind == "application/json" {
            headers.push(("Accept".to_owned(), kind.to_owned()));
        }
    }
    for (name, option) in [("User-Agent", "user-agent"), ("Range", "range")] {
        match text(args, option)? {
            Some(value) if option == "range" => headers.push((name.into(), format!("bytes={value}"))),
            Some(value) => headers.push((name.into(), value.into())),
            None => {}
        }
    }
    for (_, value) in args.all().filter(|(name, _)| *name == "header") {
        let line = value.to_str().ok_or_else(|| Failure::usage(format!("-H {value:?} is not UTF-8")))?;
        match line.strip_prefix('@') {
            None => headers.push(header(line)?),
            Some(path) => {
                let lines = String::from_utf8(read_file(path)?)
                    .map_err(|_| Failure::new(Failure::READ, format!("{path} is no text in UTF-8")))?;
                for line in lines.lines().filter(|line| !line.trim().is_empty()) {
                    headers.push(header(line)?);
                }
            }
        }
    }
    // What is given takes the place of what follows from the data.
    let given = |name: &str, at: usize, all: &[(String, String)]| {
        all.iter().skip(at + 1).any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let all = headers.clone();
    let mut at = 0;
    headers.retain(|(name, _)| {
        at += 1;
        !(matches!(name.as_str(), "Content-Type" | "Accept" | "User-Agent") && given(name, at - 1, &all))
    });
    Ok(headers)
}

/// `Name: value`, or `Name;` for one without value.
fn header(line: &str) -> Result<(String, String), Failure> {
    match (line.split_once(':'), line.trim_end().strip_suffix(';')) {
        (Some((name, value)), _) if !value.trim().is_empty() => Ok((name.trim().into(), value.trim().into())),
        (Some((name, _)), _) => Err(Failure::usage(format!("-H '{name}:': a field of our own cannot be left out"))),
        (None, Some(name)) => Ok((name.into(), String::new())),
        (None, None) => Err(Failure::usage(format!("-H '{line}': expected `Name: value`"))),
    }
}

/// `NAME:PASSWORD`; who gives the name alone is asked for the password.
pub(super) fn credentials(args: &Args, option: &str) -> Result<Option<(String, String)>, Failure> {
    let Some(text) = text(args, option)? else { return Ok(None) };
    match text.split_once(':') {
        Some((name, password)) => Ok(Some((name.into(), password.into()))),
        None => match password::ask_once() {
            Ok(password) => Ok(Some((text.into(), password))),
            Err(reason) => Err(Failure::usage(format!("--{option}: {reason}"))),
        },
    }
}

fn resume(args: &Args, output: &Output) -> Result<Option<Resume>, Failure> {
    match (text(args, "continue-at")?, output) {
        (None, _) => Ok(None),
        (Some("-"), Output::Standard) => Err(Failure::usage("-C -: where to go on is seen from a file; give -o or -O")),
        (Some("-"), _) => Ok(Some(Resume::End)),
        (Some(offset), _) => match offset.parse() {
            Ok(offset) => Ok(Some(Resume::At(offset))),
            Err(_) => Err(Failure::usage(format!("-C: expected a number or -, found {offset:?}"))),
        },
    }
}

/// `200`, `200k`, `1.5M` or `1G`, a thousand being 1024.
fn speed(text: &str) -> Result<u64, Failure> {
    let lower = text.to_ascii_lowercase();
    let unit = lower.chars().last().and_then(|last| "kmgt".find(last)).map_or(0, |at| at as u32 + 1);
    let number = if unit > 0 { &lower[..lower.len() - 1] } else { &lower };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() && number * 1024f64.powi(unit as i32) >= 1.0 => {
            Ok((number * 1024f64.powi(unit as i32)) as u64)
        }
        _ => Err(Failure::usage(format!("--limit-rate: expected a speed as 200k or 1M, found {text:?}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::args::Request;

    fn plan(line: &str) -> Result<Plan, Failure> {
        match Args::read(format!("fetch {line}").split_whitespace().map(OsString::from)).unwrap() {
            Request::Run(args) => Plan::read(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_method_follows_from_the_data() {
        for (line, method) in [
            ("h", "GET"),
            ("-d a h", "POST"),
            ("--json {} h", "POST"),
            ("-F a=b h", "POST"),
            ("-T file h", "PUT"),
            ("-I h", "HEAD"),
            ("-G -d a=b h", "GET"),
            ("-X PATCH -d a h", "PATCH"),
        ] {
            assert_eq!(plan(line).unwrap().method.as_str(), method, "{line}");
        }
        assert!(plan("-d a -F a=b h").is_err() && plan("-X B@D h").is_err() && plan("").is_err());
    }

    #[test]
    fn urls_get_a_scheme_a_query_and_a_name() {
        let urls = |line: &str| plan(line).unwrap().urls;
        assert_eq!(urls("localhost:1/x https://h/"), ["http://localhost:1/x", "https://h/"]);
        assert_eq!(urls("-G -d a=1 -d b=2 http://h/#x h?c=3"), ["http://h/?a=1&b=2#x", "http://h?c=3&a=1&b=2"]);
        assert_eq!(urls("-T /tmp/name http://h/dir/ http://h/x"), ["http://h/dir/name", "http://h/x"]);
    }

    #[test]
    fn fields_of_the_caller_take_the_place_of_ours() {
        let headers = |line: &str| plan(line).unwrap().headers;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers("--json {} h"),
            [pair("Content-Type", "application/json"), pair("Accept", "application/json")]
        );
        assert_eq!(headers("-d a -H content-type:text/plain h"), [pair("content-type", "text/plain")]);
        assert_eq!(headers("-H X;  -H X:1 -r 0-9 h"), [pair("Range", "bytes=0-9"), pair("X", ""), pair("X", "1")]);
        assert!(plan("-H X: h").is_err() && plan("-H X h").is_err());
    }

    #[test]
    fn speeds_have_units() {
        for (text, bytes) in [("200", 200), ("200k", 204_800), ("1.5M", 1_572_864), ("1G", 1 << 30)] {
            assert_eq!(plan(&format!("--limit-rate {text} h")).unwrap().rate, Some(bytes));
        }
        for text in ["", "k", "0", "-1", "fast", "NaN", "inf"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for line in ["-o a -O h", "-C - h", "-C x -o a h", "--repeat 2 -T - h", "--repeat x h", "-x ftp://h h"] {
            assert_eq!(plan(line).unwrap_err().status, Failure::USAGE, "{line}");
        }
        assert_eq!(plan("-C 5 h").unwrap().resume, Some(Resume::At(5)));
        assert_eq!(plan("-C - -O h/x").unwrap().resume, Some(Resume::End));
        let sigv4 = |line: &str| plan(line).unwrap().sigv4.unwrap();
        assert_eq!(sigv4("--sigv4 s3 h"), ("s3".into(), None));
        assert_eq!(sigv4("--sigv4 s3/eu-west-1 h"), ("s3".into(), Some("eu-west-1".into())));
    }
}
