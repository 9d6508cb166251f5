//! `ioto mqtt pub` and `ioto mqtt sub`: messages from the command line, through the running agent or over a connection of
//! their own, with the options that users of mosquitto_pub and mosquitto_sub know.

mod broker;
mod direct;
mod format;
mod payloads;
mod through_agent;

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use ioto::mqtt::{Message, Priority, QoS};

use self::format::Format;
use self::payloads::Payloads;
use super::args::{Args, Usage};
use super::commands::Opt;
use super::config;
use super::output::complain;

/// What went wrong, for the person at the terminal.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

const fn opt(short: Option<char>, name: &'static str, value: Option<&'static str>, about: &'static str) -> Opt {
    Opt { short, name, value, about }
}

/// What both take: how surely, how long, and who the broker is.
const SHARED: [Opt; 14] = [
    opt(Some('q'), "qos", Some("N"), "quality of service, 0 when not given"),
    opt(Some('W'), "timeout", Some("SECS"), "give up after so many seconds"),
    opt(None, "direct", None, "a connection of its own to mqtt.endpoint"),
    opt(Some('h'), "host", Some("HOST"), "a connection of its own to this host"),
    opt(Some('p'), "port", Some("PORT"), "its port; 1883, or 8883 with --cafile"),
    opt(Some('L'), "url", Some("URL"), "or as mqtts://HOST:PORT, wss://HOST/PATH"),
    opt(Some('u'), "username", Some("NAME"), "log in with this name"),
    opt(Some('P'), "pw", Some("PASSWORD"), "and this password"),
    opt(Some('i'), "id", Some("ID"), "client id; a random one when not given"),
    opt(None, "cafile", Some("FILE"), "TLS with the roots of this file"),
    opt(None, "cert", Some("FILE"), "the certificate to show"),
    opt(None, "key", Some("FILE"), "its private key"),
    opt(None, "proxy", Some("URL"), "through http://… or socks5://…"),
    opt(Some('d'), "debug", None, "say what happens"),
];

/// The options of a command: its own, and then those that both take.
const fn with_shared<const OWN: usize, const ALL: usize>(own: [Opt; OWN]) -> [Opt; ALL] {
    assert!(ALL == OWN + SHARED.len());
    let mut all = [SHARED[0]; ALL];
    let mut place = 0;
    while place < ALL {
        all[place] = if place < OWN { own[place] } else { SHARED[place - OWN] };
        place += 1;
    }
    all
}

/// The options of `ioto mqtt pub`.
pub const PUB: &[Opt] = &with_shared::<10, 24>([
    opt(Some('t'), "topic", Some("TOPIC"), "where to"),
    opt(Some('m'), "message", Some("TEXT"), "the payload"),
    opt(Some('f'), "file", Some("FILE"), "the payload is what the file holds"),
    opt(Some('s'), "stdin-file", None, "the payload is all of the standard input"),
    opt(Some('l'), "stdin-line", None, "a message for each line of the input"),
    opt(Some('n'), "null-message", None, "an empty payload"),
    opt(Some('r'), "retain", None, "the broker keeps it for later subscribers"),
    opt(None, "no-wait", None, "leave it to the agent when it is delivered"),
    opt(None, "priority", Some("NAME"), "in the agent's queue: high, normal or low"),
    opt(None, "durable", None, "the agent has it on disk (with -q 1 or 2)"),
]);

/// The options of `ioto mqtt sub`.
pub const SUB: &[Opt] = &with_shared::<6, 20>([
    opt(Some('t'), "topic", Some("FILTER"), "what to take; any number of times"),
    opt(Some('C'), "count", Some("N"), "end after so many messages"),
    opt(Some('v'), "verbose", None, "show the topic before the payload"),
    opt(Some('F'), "format", Some("FORMAT"), "%t topic %p payload %q %r %l %x %I %U %j …"),
    opt(Some('N'), "no-newline", None, "no line break after a message"),
    opt(Some('R'), "no-retained", None, "leave out what the broker had kept"),
]);

/// Carries out `ioto mqtt pub`.
pub fn publish(args: Args) -> ExitCode {
    let (order, payloads) = match Publication::read(&args).and_then(|order| Ok((order, Payloads::read(&args)?))) {
        Ok(read) => read,
        Err(usage) => return usage.complain(),
    };
    finish(&args, |way| match way {
        Way::Agent(client) => through_agent::publish(&client, &order, payloads),
        Way::Direct(options) => direct::publish(*options, order, payloads),
    })
}

/// Carries out `ioto mqtt sub`.
pub fn subscribe(args: Args) -> ExitCode {
    let order = match Subscription::read(&args) {
        Ok(order) => order,
        Err(usage) => return usage.complain(),
    };
    finish(&args, |way| match way {
        Way::Agent(client) => through_agent::subscribe(&client, order),
        Way::Direct(options) => direct::subscribe(*options, order),
    })
}

/// How the broker is reached.
enum Way {
    Agent(ioto::api::Client),
    Direct(Box<ioto::mqtt::Options>),
}

fn finish(args: &Args, act: impl FnOnce(Way) -> Result<(), Failure>) -> ExitCode {
    let own = ["username", "pw", "id", "cert", "key", "proxy"].into_iter().find(|name| args.flag(name));
    if let Some(name) = own.filter(|_| !broker::is_named(args) && !args.flag("direct")) {
        return Usage(format!("--{name} is for a connection of its own: name a broker with -h, or use --direct"))
            .complain();
    }
    let agents = ["priority", "durable", "no-wait"].into_iter().find(|name| args.flag(name));
    if let Some(name) = agents.filter(|_| broker::is_named(args) || args.flag("direct")) {
        return Usage(format!("--{name} is for the queue of the running agent: leave out -h, -L and --direct"))
            .complain();
    }
    let way = match broker::is_named(args) {
        true => match broker::named(args) {
            Ok(options) => Way::Direct(Box::new(options)),
            Err(usage) => return usage.complain(),
        },
        false => {
            let loaded = match config::load(args) {
                Ok(loaded) => loaded,
                Err(status) => return status,
            };
            match args.flag("direct") {
                true => match broker::configured(args, &loaded.config) {
                    Ok(options) => Way::Direct(Box::new(options)),
                    Err(usage) => return usage.complain(),
                },
                false => Way::Agent(ioto::api::Client::new(loaded.config.directories.api_socket())),
            }
        }
    };
    match act(way) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            complain(&format!("ioto: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// What `pub` sends, beside the payloads.
struct Publication {
    topic: String,
    qos: QoS,
    retain: bool,
    wait: bool,
    priority: Priority,
    durable: bool,
    timeout: Option<Duration>,
    debug: bool,
}

impl Publication {
    fn read(args: &Args) -> Result<Self, Usage> {
        let topic = text(args, "topic").ok_or_else(|| Usage("-t: a topic is needed".into()))?;
        if !ioto::mqtt::topic::is_topic(&topic) {
            return Err(Usage(format!("-t: '{topic}' is no topic: '+' and '#' are for filters")));
        }
        let priority = text(args, "priority").map_or(Ok(Priority::Normal), |name| name.parse());
        Ok(Self {
            topic,
            qos: qos(args)?,
            retain: args.flag("retain"),
            wait: !args.flag("no-wait"),
            priority: priority.map_err(|wrong| Usage(format!("--priority: {wrong}")))?,
            durable: args.flag("durable"),
            timeout: args.seconds("timeout")?,
            debug: args.flag("debug"),
        })
    }

    fn message(&self, payload: Vec<u8>) -> Message {
        Message { retain: self.retain, ..Message::new(self.topic.clone(), payload, self.qos) }
    }
}

/// What `sub` takes and how it shows it.
struct Subscription {
    filters: Vec<String>,
    qos: QoS,
    left: Option<u64>,
    timeout: Option<Duration>,
    format: Format,
    newline: bool,
    retained: bool,
    debug: bool,
}

impl Subscription {
    fn read(args: &Args) -> Result<Self, Usage> {
        let given = args.all().filter(|(name, _)| *name == "topic");
        let filters: Vec<String> = given.map(|(_, filter)| filter.to_string_lossy().into_owned()).collect();
        if filters.is_empty() {
            return Err(Usage("-t: a topic filter is needed, as 'a/+/b/#'".into()));
        }
        if let Some(filter) = filters.iter().find(|filter| !ioto::mqtt::topic::is_filter(filter)) {
            return Err(Usage(format!("-t: '{filter}' is no topic filter, as 'a/+/b/#' is one")));
        }
        let left = text(args, "count").map(|count| match count.parse() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(Usage(format!("-C: expected a number of messages, found `{count}`"))),
        });
        let format = match (text(args, "format"), args.flag("verbose")) {
            (Some(format), _) => Format::read(&format)?,
            (None, true) => Format::read("%t %p")?,
            (None, false) => Format::read("%p")?,
        };
        Ok(Self {
            filters,
            qos: qos(args)?,
            left: left.transpose()?,
            timeout: args.seconds("timeout")?,
            format,
            newline: !args.flag("no-newline"),
            retained: !args.flag("no-retained"),
            debug: args.flag("debug"),
        })
    }

    /// Shows a message; breaks after the last one.
    fn show(&mut self, message: &Message) -> Result<ControlFlow<()>, Failure> {
        if message.retain && !self.retained {
            return Ok(ControlFlow::Continue(()));
        }
        let mut line = self.format.line(message);
        if self.newline {
            line.push(b'\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(&line).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            // Who reads has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ControlFlow::Break(())),
            Err(error) => return Err(Failure(format!("cannot write: {error}"))),
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn text(args: &Args, name: &str) -> Option<String> {
    args.value(name).map(|value| value.to_string_lossy().into_owned())
}

fn qos(args: &Args) -> Result<QoS, Usage> {
    let Some(text) = text(args, "qos") else { return Ok(QoS::AtMostOnce) };
    let known = text.parse().ok().and_then(QoS::of);
    known.ok_or_else(|| Usage(format!("-q: expected 0, 1 or 2, found `{text}`")))
}

fn timed_out(timeout: Duration) -> Failure {
    Failure(format!("it was not done within {timeout:?} (-W)"))
}
