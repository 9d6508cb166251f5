//! The proxies of the transfers: those of the options, or of the variables that other programs know too.

use ioto::config::Secret;
use ioto::fetch::{Exceptions, Proxies};
use ioto::net::Proxy;

use super::failure::Failure;
use super::plan::{credentials, text};
use crate::cli::args::Args;

/// A variable of the environment; one without a value is as if it were not there.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The proxies, and the hosts that are reached without them. As with curl `-x` counts before the variables, an empty one
/// means none, and `no_proxy` holds for both.
pub fn read(args: &Args, variable: impl Fn(&str) -> Option<String>) -> Result<(Proxies, Exceptions), Failure> {
    let first = |names: &[&'static str]| names.iter().find_map(|name| Some((*name, variable(name)?)));
    let proxy = |names: &[&'static str]| first(names).map(|(name, url)| parse(name, &url)).transpose();
    let proxies = match text(args, "proxy")? {
        Some("") => Proxies::default(),
        Some(url) => parse("-x", url)?.into(),
        None => Proxies {
            // HTTP_PROXY is left alone: a web server tells its CGI programs in it what a client sent as `Proxy:`.
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
        },
    };
    let proxies = match login(args)? {
        None => proxies,
        Some((name, password)) => {
            let with = |proxy: Option<Proxy>| proxy.map(|proxy| proxy.login(&name, password.clone()));
            Proxies { http: with(proxies.http), https: with(proxies.https) }
        }
    };
    let direct = match (text(args, "noproxy")?, first(&["no_proxy", "NO_PROXY"])) {
        (Some(list), _) => list.parse().map_err(|wrong| Failure::usage(format!("--noproxy: {wrong}")))?,
        (None, Some((_, list))) => tolerant(&list),
        (None, None) => Exceptions::default(),
    };
    Ok((proxies, direct))
}

/// Who we are at the proxy; it counts before what its URL says.
fn login(args: &Args) -> Result<Option<(String, Secret)>, Failure> {
    let Some((name, password)) = credentials(args, "proxy-user")? else { return Ok(None) };
    Ok(Some((name, Secret::new(password))))
}

/// A proxy without scheme is one of HTTP, as curl has it.
fn parse(place: &str, url: &str) -> Result<Proxy, Failure> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    url.parse().map_err(|wrong| Failure::usage(format!("{place}: {wrong}")))
}

/// The variable was written for other programs as well: what only they understand names no host of ours.
fn tolerant(list: &str) -> Exceptions {
    let known = list.split([',', ' ']).filter(|entry| entry.parse::<Exceptions>().is_ok());
    known.collect::<Vec<_>>().join(",").parse().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::args::Request;

    fn plan(line: &str, variables: &[(&str, &str)]) -> Result<(Proxies, Exceptions), Failure> {
        let words = ["fetch", "h"].into_iter().chain(line.split_whitespace());
        let words = words.map(|word| if word == "EMPTY" { OsString::new() } else { word.into() });
        let Request::Run(args) = Args::read(words).unwrap() else { panic!("it runs nothing") };
        let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        read(&args, of)
    }

    fn shown(line: &str, variables: &[(&str, &str)]) -> [String; 2] {
        let (Proxies { http, https }, _) = plan(line, variables).unwrap();
        [http, https].map(|proxy| proxy.map_or(String::new(), |proxy| proxy.to_string()))
    }

    #[test]
    fn variables_are_those_of_curl_and_options_go_before_them() {
        let all = [("http_proxy", "a:1"), ("HTTPS_PROXY", "socks5://b"), ("all_proxy", "c:3"), ("HTTP_PROXY", "d:4")];
        assert_eq!(shown("", &all), ["http://a:1", "socks5://b:1080"]);
        assert_eq!(shown("", &all[1..]), ["http://c:3", "socks5://b:1080"]);
        assert_eq!(shown("", &all[3..]), ["", ""]);
        assert_eq!(shown("-x socks5h://e:5", &all), ["socks5://e:5", "socks5://e:5"]);
        assert_eq!(shown("-x EMPTY", &all), ["", ""]);
        let (proxies, _) = plan("-U me:secret", &all).unwrap();
        assert_eq!(proxies.http.unwrap().authorization().unwrap(), "Basic bWU6c2VjcmV0");
        let error = plan("", &[("https_proxy", "https://a")]).unwrap_err();
        assert!(error.to_string().starts_with("https_proxy: "), "{error}");
    }

    #[test]
    fn exceptions_of_the_variable_may_hold_what_we_do_not_know() {
        let variables = [("no_proxy", "a.example, [bad, 10.0.0.0/8,b.example:8080")];
        let (_, direct) = plan("-x p", &variables).unwrap();
        assert!(direct.holds("x.a.example") && direct.holds("10.1.1.1") && !direct.holds("b.example"));
        let (_, direct) = plan("-x p --noproxy c.example", &variables).unwrap();
        assert!(direct.holds("c.example") && !direct.holds("a.example"));
        assert_eq!(plan("--noproxy [bad", &variables).unwrap_err().status, Failure::USAGE);
    }
}
