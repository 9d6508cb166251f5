//! The options of `ioto fetch`, named as those of curl.

use crate::cli::commands::Opt;

/// What its help says beside the options.
pub const DETAILS: &str = "\
Names and letters are those of curl. A URL without scheme is one of http; more
than one are fetched in turn, with connections kept between them.\n
Exit status, as of curl: 0, 1 (failed), 2 (bad usage), 3 (no such URL), 6 (name
not found), 7 (no connection), 8 (no HTTP), 18 (broken off), 22 (-f: status 400
or more), 23 (cannot write), 26 (cannot read), 28 (too slow), 33 (no ranges),
35 (TLS), 47 (redirections), 52 (no answer), 56 (connection lost), 58 (own
certificate), 60 (server's certificate), 61 (compression), 67 (login), 77
(--cacert), 90 (--pinnedpubkey), 97 (proxy).\n
--write-out knows http_code, content_type, url_effective, method, size_upload,
size_download, speed_download, time_starttransfer, time_total, exitcode, as
%{http_code}, and \\n, \\t, %%.";

/// The options.
pub const OPTIONS: &[Opt] = &[
    with('X', "request", "METHOD", "the method, instead of what follows from the rest"),
    with('H', "header", "LINE", "send `Name: value`; @FILE: all lines of it"),
    with('d', "data", "DATA", "post DATA, or @FILE without line ends; joined by &"),
    long("data-raw", "DATA", "the same, but an @ is an @"),
    long("data-binary", "DATA", "the same, but @FILE is sent as it is"),
    long("data-urlencode", "DATA", "the same, encoded: TEXT, NAME=TEXT or NAME@FILE"),
    long("json", "DATA", "post DATA or @FILE as JSON"),
    with('F', "form", "NAME=VALUE", "upload a form; NAME=@FILE[;type=T][;filename=N]"),
    with('T', "upload-file", "FILE", "put a file there; -: standard input"),
    flag('G', "get", "send the data in the query of the URL"),
    with('u', "user", "NAME:PASSWORD", "who we are; asks for the password if not given"),
    plain("digest", "prove it by digest (-u)"),
    long("sigv4", "SERVICE[/REGION]", "sign for AWS, with the keys the agent has"),
    with('A', "user-agent", "TEXT", "the field User-Agent"),
    with('r', "range", "FIRST-LAST", "these bytes only"),
    flag('L', "location", "follow redirections, 10 at most"),
    with('o', "output", "FILE", "write there, instead of standard output"),
    flag('O', "remote-name", "write to a file named as the end of the URL"),
    with('C', "continue-at", "OFFSET", "go on from there; -: from the end of the file"),
    plain("compressed", "let the server compress; written uncompressed"),
    long("limit-rate", "SPEED", "bytes a second at most, as 200k or 1M"),
    flag('i', "include", "write the head of the response too"),
    flag('I', "head", "ask for the head alone"),
    flag('f', "fail", "fail, and write nothing, when the status is an error"),
    flag('s', "silent", "show neither progress nor errors"),
    flag('S', "show-error", "show errors even so"),
    flag('v', "verbose", "show heads on standard error"),
    with('w', "write-out", "FORMAT", "write this at the end, see above"),
    with('m', "max-time", "SECS", "all of it may take so long"),
    long("connect-timeout", "SECS", "connecting may take so long (15), and so TLS"),
    long("retry", "TIMES", "try again what fails in passing and may be repeated"),
    long("repeat", "TIMES", "send it so many times"),
    with('x', "proxy", "URL", "through this proxy: http://HOST:PORT or socks5://…"),
    with('U', "proxy-user", "LOGIN", "who we are there, given as with -u"),
    long("noproxy", "LIST", "but hosts as a.example,10.0.0.0/8 without one"),
    long("cacert", "FILE", "trust these authorities only"),
    long("pinnedpubkey", "PINS", "trust these keys only: sha256//BASE64;sha256//…"),
    long("cert", "FILE", "show this certificate"),
    long("key", "FILE", "its key; in the same file if not given"),
    flag('k', "insecure", "trust any server; in profile dev only"),
];

const fn flag(short: char, name: &'static str, about: &'static str) -> Opt {
    Opt { short: Some(short), name, value: None, about }
}

const fn plain(name: &'static str, about: &'static str) -> Opt {
    Opt { short: None, name, value: None, about }
}

const fn with(short: char, name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { short: Some(short), name, value: Some(value), about }
}

const fn long(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { short: None, name, value: Some(value), about }
}
