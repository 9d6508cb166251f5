//! Reading the arguments of the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ioto::config::{ENVIRONMENT_PREFIX, Invocation};
use lexopt::Arg;

use super::commands::{COMMANDS, COMMON, Command, Opt};
use super::output::{USAGE, complain};

/// What the caller wants.
#[derive(Debug)]
pub enum Request {
    /// `--version`
    Version,
    /// `--help`, perhaps after a command.
    Help(Option<&'static Command>),
    /// A command.
    Run(Args),
}

/// Why the arguments make no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(pub String);

/// A command with its arguments.
#[derive(Debug)]
pub struct Args {
    /// The command.
    pub command: &'static Command,
    /// The words after it.
    pub words: Vec<String>,
    options: Vec<(&'static str, OsString)>,
}

impl Args {
    /// Reads the arguments after the program's name. Options may stand before the command as well as after it; those of one
    /// letter only after it, because each command has its own.
    ///
    /// # Errors
    /// Whatever the tables in `commands` do not know.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Result<Request, Usage> {
        let mut parser = lexopt::Parser::from_args(arguments);
        parser.set_short_equals(false);
        let (mut words, mut options, mut help) = (Vec::new(), Vec::new(), false);
        while let Some(argument) = parser.next()? {
            let known = options_after(&words);
            let own = match argument {
                Arg::Short(letter) => known.iter().find(|option| option.short == Some(letter)),
                _ => None,
            };
            let option = match argument {
                // Before help: to the users of some programs `-h` is something else.
                Arg::Short(_) if own.is_some() => own.unwrap_or(&COMMON[0]),
                Arg::Long("help") | Arg::Short('h') => {
                    help = true;
                    continue;
                }
                Arg::Long("version") | Arg::Short('V') => return Ok(Request::Version),
                Arg::Long(name) => match known.iter().chain(all_options()).find(|option| option.name == name) {
                    Some(option) => option,
                    None => return Err(Usage(format!("there is no option `--{name}`"))),
                },
                Arg::Short(_) => return Err(argument.unexpected().into()),
                Arg::Value(word) => {
                    words.push(word.into_string().map_err(|word| Usage(format!("{word:?} is not UTF-8")))?);
                    continue;
                }
            };
            let value = if option.value.is_some() { parser.value()? } else { OsString::new() };
            options.push((option.name, value));
        }
        let Some(command) = command_of(&words) else {
            return match help && words.is_empty() {
                true => Ok(Request::Help(None)),
                false => Err(unknown(&words)),
            };
        };
        if help {
            return Ok(Request::Help(Some(command)));
        }
        words.drain(..command.name.split(' ').count());
        match words.first() {
            Some(word) if command.words.is_empty() => {
                return Err(Usage(format!("`ioto {}` takes no `{word}`", command.name)));
            }
            _ => {}
        }
        let allowed = |name| COMMON.iter().chain(command.options).any(|option| option.name == name);
        if let Some((name, _)) = options.iter().find(|(name, _)| !allowed(*name)) {
            return Err(Usage(format!("`ioto {}` takes no `--{name}`", command.name)));
        }
        Ok(Request::Run(Self { command, words, options }))
    }

    /// Whether an option without a value is given.
    pub fn flag(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    /// The value of an option; the last, when it is given more than once.
    pub fn value(&self, name: &str) -> Option<&OsString> {
        self.options.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// All options in their order, with their values.
    #[cfg(any(feature = "fetch", all(feature = "mqtt", feature = "web")))]
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.options.iter().map(|(name, value)| (*name, value))
    }

    /// The value of an option as a time, in seconds.
    ///
    /// # Errors
    /// The value is no number of seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Usage> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let seconds = value.to_str().and_then(|value| value.parse().ok()).map(Duration::try_from_secs_f64);
        match seconds {
            Some(Ok(seconds)) => Ok(Some(seconds)),
            _ => Err(Usage(format!("--{name}: expected a number of seconds, found {value:?}"))),
        }
    }

    /// What the configuration needs to know, with the environment of this process.
    pub fn invocation(&self) -> Invocation {
        let text = |value: &OsString| value.to_string_lossy().into_owned();
        let listen = self.options.iter().filter(|(name, _)| *name == "listen").map(|(_, value)| text(value)).collect();
        let variables = std::env::vars_os().map(|(name, value)| (text(&name), text(&value)));
        Invocation {
            config_dir: self.value("config").map(PathBuf::from),
            state_dir: self.value("state").map(PathBuf::from),
            profile: self.value("profile").map(text),
            listen,
            environment: variables.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect(),
            current_dir: None,
        }
    }
}

impl Usage {
    /// Tells the caller, and gives the exit status of bad usage.
    pub fn complain(&self) -> ExitCode {
        complain(&format!("ioto: {}\nTry `ioto --help`.", self.0));
        ExitCode::from(USAGE)
    }
}

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// The command that the words begin with.
fn command_of(words: &[String]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.split(' ').eq(words.iter().take(command.name.split(' ').count())))
}

/// What may stand after these words: the same name can take a value in one command and none in another.
fn options_after(words: &[String]) -> &'static [Opt] {
    command_of(words).map_or(&[], |command| command.options)
}

fn all_options() -> impl Iterator<Item = &'static Opt> {
    COMMON.iter().chain(COMMANDS.iter().flat_map(|command| command.options))
}

fn unknown(words: &[String]) -> Usage {
    let Some(first) = words.first() else { return Usage("expected a command".into()) };
    let longer: Vec<_> = COMMANDS
        .iter()
        .filter(|command| command.name.split(' ').next() == Some(first))
        .map(|command| format!("`ioto {}`", command.name))
        .collect();
    Usage(match longer.is_empty() {
        true => format!("there is no command `{first}`"),
        false => format!("expected {}", longer.join(" or ")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, Usage> {
        Args::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_stand_before_and_after_the_command() {
        let Ok(Request::Run(args)) =
            read("--config a run --listen http://:1 --listen=http://:2 --exit-after 1.5 --config b")
        else {
            panic!("not a command")
        };
        assert_eq!(args.command.name, "run");
        let invocation = args.invocation();
        assert_eq!(invocation.listen, ["http://:1", "http://:2"]);
        assert_eq!(invocation.config_dir, Some("b".into()));
        assert_eq!(args.seconds("exit-after").unwrap(), Some(Duration::from_millis(1500)));
        let Ok(Request::Run(args)) = read("db get Reading 5 --json") else { panic!("not a command") };
        assert_eq!(
            (args.words.join(" "), args.flag("json"), args.flag("origin")),
            ("get Reading 5".into(), true, false)
        );
    }

    #[test]
    fn what_the_tables_do_not_know_is_refused() {
        let rows = [
            ("", "expected a command"),
            ("fly", "there is no command `fly`"),
            ("config", "expected `ioto config check` or `ioto config show`"),
            ("config chekc", "expected `ioto config check` or `ioto config show`"),
            ("run fast", "`ioto run` takes no `fast`"),
            ("run --json", "`ioto run` takes no `--json`"),
            ("run --fast", "there is no option `--fast`"),
            ("run -x", "invalid option '-x'"),
            ("run --listen", "missing argument for option '--listen'"),
            ("status --json=yes", "unexpected argument for option '--json': \"yes\""),
            ("fly --help", "there is no command `fly`"),
        ];
        for (line, message) in rows {
            assert_eq!(read(line).unwrap_err(), Usage(message.into()), "{line}");
        }
        let Ok(Request::Run(args)) = read("run --exit-after soon") else { panic!("not a command") };
        assert!(args.seconds("exit-after").is_err());
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert!(matches!(read("--version"), Ok(Request::Version)));
        assert!(matches!(read("--help"), Ok(Request::Help(None))));
        assert!(
            matches!(read("config show --help"), Ok(Request::Help(Some(command))) if command.name == "config show")
        );
    }
}
