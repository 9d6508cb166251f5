//! The commands of the program and their options. Help and the reading of arguments are made from these tables.

use std::process::ExitCode;

use super::args::{Args, Request};
use super::{config, db, doctor, fetch, help, mqtt, output, password, run, status};

/// A command.
#[derive(Debug)]
pub struct Command {
    /// One or two words.
    pub name: &'static str,
    /// The words that follow it, for help; empty: none are taken.
    pub words: &'static str,
    /// What it does, on one line.
    pub about: &'static str,
    /// More, for its own help.
    pub details: &'static str,
    /// Its options beside [`COMMON`].
    pub options: &'static [Opt],
    /// What carries it out.
    pub main: fn(Args) -> ExitCode,
}

/// An option, `--name` or `--name VALUE`, perhaps also of one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// The letter that says the same, `-x`.
    pub short: Option<char>,
    /// The name without dashes.
    pub name: &'static str,
    /// What the value is, for help; nothing: it takes none.
    pub value: Option<&'static str>,
    /// What it does, on one line.
    pub about: &'static str,
}

/// The options of every command.
pub const COMMON: &[Opt] = &[
    Opt { short: None, name: "config", value: Some("DIR"), about: "the configuration, instead of /etc/ioto" },
    Opt { short: None, name: "state", value: Some("DIR"), about: "the state, instead of /var/lib/ioto" },
    Opt {
        short: None,
        name: "profile",
        value: Some("NAME"),
        about: "dev (a developer's machine) or prod (a device, the default)",
    },
];

const JSON: Opt = Opt { short: None, name: "json", value: None, about: "write JSON" };

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        words: "",
        about: "Start the agent and stay until SIGTERM",
        details: "",
        options: &[
            Opt {
                short: None,
                name: "listen",
                value: Some("URL"),
                about: "listen here instead, as http://:8080; any number of times",
            },
            Opt { short: None, name: "exit-after", value: Some("SECS"), about: "stop after so many seconds" },
        ],
        main: run::main,
    },
    Command {
        name: "status",
        words: "",
        about: "Show what the running agent does",
        details: "",
        options: &[JSON],
        main: status::main,
    },
    Command {
        name: "doctor",
        words: "",
        about: "Check the agent, its sandbox and the machine",
        details: "Says of each point whether it is well, and what to do when it is not.
Exit status 1 when a point failed.",
        options: &[JSON],
        main: doctor::main,
    },
    Command {
        name: "db",
        words: "VERB …",
        about: "Read and write the database",
        details: "Asks the running agent; when none runs, opens the database itself.
  models | get MODEL ID | find MODEL [FIELD=VALUE…] | watch [MODEL …]
  create, upsert MODEL FIELD=VALUE… | update MODEL ID FIELD=VALUE…
  remove MODEL ID | batch FILE | transaction FILE | conflicts | statistics
  import MODEL FILE | export MODEL | backup, restore FILE | check | compact\n
FIELD:=JSON is taken as it is. find: also <, <=, >, >=, <>, ^= (begins with)
and ~= (contains). update: also FIELD+=NUMBER and FIELD[]=ELEMENT.",
        options: &[
            Opt { short: None, name: "where", value: Some("JSON"), about: "find, watch, update, remove: only these" },
            Opt { short: None, name: "order", value: Some("FIELD"), about: "find: ordered by this field" },
            Opt { short: None, name: "descending", value: None, about: "find: the highest first" },
            Opt { short: None, name: "fields", value: Some("A,B"), about: "find: only these fields" },
            Opt { short: None, name: "limit", value: Some("N"), about: "find, conflicts: so many, at most 1000" },
            Opt { short: None, name: "next", value: Some("ID"), about: "find: the items after this one" },
            Opt { short: None, name: "format", value: Some("F"), about: "import, export: jsonl or csv" },
            JSON,
        ],
        main: db::main,
    },
    Command {
        name: "fetch",
        words: "URL…",
        about: "Send requests of HTTP, as curl does",
        details: fetch::DETAILS,
        options: fetch::OPTIONS,
        main: fetch::main,
    },
    Command {
        name: "mqtt pub",
        words: "",
        about: "Publish messages",
        details: "Through the running agent, or over a connection of its own: see --direct.",
        options: mqtt::PUB,
        main: mqtt::publish,
    },
    Command {
        name: "mqtt sub",
        words: "",
        about: "Show messages as they come",
        details: "Through the running agent, or over a connection of its own: see --direct.",
        options: mqtt::SUB,
        main: mqtt::subscribe,
    },
    Command {
        name: "password",
        words: "USER",
        about: "Make the entry of a user for web.json5",
        details: "Asks for the password, or reads a line of it when the input is no terminal, and
writes a member of auth.users in web.json5.\n
  ioto password token NAME\n
makes a bearer token for a program, and a member of auth.tokens.",
        options: &[
            Opt {
                short: None,
                name: "role",
                value: Some("ROLE"),
                about: "what the user may do; `public` when not given",
            },
            Opt {
                short: None,
                name: "realm",
                value: Some("REALM"),
                about: "also for digest authentication in this realm",
            },
        ],
        main: password::main,
    },
    Command {
        name: "config check",
        words: "",
        about: "Read the configuration and say all that is wrong",
        details: "Exit status 2 when anything is wrong.",
        options: &[],
        main: config::check,
    },
    Command {
        name: "config show",
        words: "",
        about: "Show the configuration as it is in effect",
        details: "All layers are blended; passwords and keys are masked.",
        options: &[Opt { short: None, name: "origin", value: None, about: "show where each value comes from" }, JSON],
        main: config::show,
    },
];

/// Runs the program.
pub fn main() -> ExitCode {
    match Args::read(std::env::args_os().skip(1)) {
        Ok(Request::Version) => output::print(concat!("ioto ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Help(None)) => output::print(&help::all()),
        Ok(Request::Help(Some(command))) => output::print(&help::of(command)),
        Ok(Request::Run(args)) => (args.command.main)(args),
        Err(usage) => usage.complain(),
    }
}
