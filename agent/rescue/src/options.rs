//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ioto_wire::heartbeat::STALE;

/// What `--help` prints.
pub const HELP: &str = "\
Answers on a Unix socket when the device agent does not.

Usage: ioto-rescue [COMMAND] [OPTION…]

Commands:
  (none)   serve the socket: GET /livez, GET /status, POST /restart
  check    say whether the agent lives; exit status 0: it does, 1: it hangs,
           3: it does not run, 4: there is no heartbeat
  status   show what /status answers
  restart  have the agent restarted

Options:
  --run DIR      heartbeat and sockets are here, instead of /run/ioto
  --stale SECS   an older heartbeat is a hang (5)
  --socket PATH  listen here, instead of rescue.sock in the run directory
  --helper PATH  ioto-helper listens here, instead of helper.sock in it
  --clients N    connections at once, 4 to 1000 (256)
  --log FILE     the agent's log, instead of the journal or /var/log/messages
  --user NAME    become this user when started as root (ioto-rescue)
  --group NAME   with this group (ioto)
  --help, --version";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Serve,
    Check,
    Status,
    Restart,
    Help,
    Version,
}

/// How it is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    pub command: Command,
    /// The run directory of the agent.
    pub run: PathBuf,
    /// An older heartbeat is a hang.
    pub stale: Duration,
    pub socket: PathBuf,
    /// Where ioto-helper listens.
    pub helper: PathBuf,
    /// Connections at once.
    pub clients: usize,
    /// Where the agent's log is, when it is not where logs are.
    pub log: Option<PathBuf>,
    pub user: String,
    pub group: String,
}

impl Options {
    /// From the arguments of the program, or what is wrong with them.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self {
            command: Command::Serve,
            run: "/run/ioto".into(),
            stale: STALE,
            socket: PathBuf::new(),
            helper: PathBuf::new(),
            clients: 256,
            log: None,
            user: "ioto-rescue".into(),
            group: "ioto".into(),
        };
        let mut words = Words { rest: arguments, value: None };
        while let Some(word) = words.next_word()? {
            match word.as_str() {
                "check" => options.command = Command::Check,
                "status" => options.command = Command::Status,
                "restart" => options.command = Command::Restart,
                "--help" => options.command = Command::Help,
                "--version" => options.command = Command::Version,
                "--run" => options.run = words.value("--run")?.into(),
                "--stale" => options.stale = seconds(&words.value("--stale")?)?,
                "--socket" => options.socket = words.value("--socket")?.into(),
                "--helper" => options.helper = words.value("--helper")?.into(),
                "--clients" => options.clients = clients(&words.value("--clients")?)?,
                "--log" => options.log = Some(words.value("--log")?.into()),
                "--user" => options.user = name("--user", words.value("--user")?)?,
                "--group" => options.group = name("--group", words.value("--group")?)?,
                other if other.starts_with('-') => return Err(format!("there is no option `{other}`")),
                other => return Err(format!("there is no command `{other}`")),
            }
            if words.value.is_some() {
                return Err(format!("`{word}` takes no value"));
            }
        }
        for (path, default) in [(&mut options.socket, "rescue.sock"), (&mut options.helper, "helper.sock")] {
            if path.as_os_str().is_empty() {
                *path = options.run.join(default);
            }
        }
        Ok(options)
    }
}

/// The arguments, one by one; `--name=value` as two.
struct Words<I> {
    rest: I,
    value: Option<OsString>,
}

impl<I: Iterator<Item = OsString>> Words<I> {
    fn next_word(&mut self) -> Result<Option<String>, String> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        let word = word.into_string().map_err(|word| format!("{word:?} is not UTF-8"))?;
        match word.split_once('=').filter(|_| word.starts_with("--")) {
            Some((name, value)) => {
                self.value = Some(value.into());
                Ok(Some(name.to_owned()))
            }
            None => Ok(Some(word)),
        }
    }

    fn value(&mut self, option: &str) -> Result<OsString, String> {
        let value = self.value.take().or_else(|| self.rest.next()).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("`{option}` needs a value"))
    }
}

fn seconds(text: &OsString) -> Result<Duration, String> {
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|number| (0.1..=3600.0).contains(number));
    let wrong = || format!("--stale: expected seconds from 0.1 to 3600, found {text:?}");
    number.map(Duration::from_secs_f64).ok_or_else(wrong)
}

fn clients(text: &OsString) -> Result<usize, String> {
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|number| (4..=1000).contains(number));
    number.ok_or_else(|| format!("--clients: expected a number from 4 to 1000, found {text:?}"))
}

fn name(option: &str, text: OsString) -> Result<String, String> {
    text.into_string().map_err(|text| format!("{option}: {text:?} is not UTF-8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_have_defaults_and_values() {
        let options = read("").unwrap();
        assert_eq!((options.command, options.socket), (Command::Serve, "/run/ioto/rescue.sock".into()));
        let options = read("check --run=/r --stale 2.5 --helper h --clients 4").unwrap();
        assert_eq!(
            (options.command, options.run, options.stale),
            (Command::Check, "/r".into(), Duration::from_millis(2500))
        );
        assert_eq!((options.socket, options.helper, options.clients), ("/r/rescue.sock".into(), "h".into(), 4));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in ["fly", "--fly", "-h", "--run", "--run=", "--stale x", "--stale 0", "--clients 3", "--help=1"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
