//! `ioto password`: a user's or a token's entry for web.json5.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::ExitCode;

use async_signal::{Signal, Signals};
use ioto::web::auth::bearer;
use ioto::web::auth::password::{Hash, LONGEST, hash};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use smol::stream::StreamExt;

use super::args::{Args, Usage};
use super::output::{complain, print};

/// Asks for a password and writes the user's entry.
pub fn main(args: Args) -> ExitCode {
    let (user, is_token) = match args.words.as_slice() {
        [word, name] if word == "token" => (name, true),
        [user] if user != "token" => (user, false),
        _ => return Usage("expected one USER, or `token` and a NAME".into()).complain(),
    };
    let text = |name| args.value(name).map(|value| value.to_string_lossy().into_owned());
    let (role, realm) = (text("role").unwrap_or_else(|| "public".into()), text("realm"));
    if let Err(problem) = check_name(user) {
        return Usage(problem).complain();
    }
    if is_token {
        return make_token(user, &role);
    }
    match ask().and_then(|password| entry(user, &role, realm.as_deref(), &password)) {
        Ok(line) => print(&line),
        Err(problem) => {
            complain(&format!("ioto: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a new token to the standard error and its entry, the member of `auth.tokens`, to the standard output.
fn make_token(name: &str, role: &str) -> ExitCode {
    let Some(token) = bearer::make() else {
        complain("ioto: the system gives no random bytes");
        return ExitCode::FAILURE;
    };
    complain(&format!("The token, shown this once: {token}"));
    let hash = format!("SHA256:{}", Hash::Sha256.of(&token));
    print(&format!("{}: {{token: {}, role: {}}},\n", quoted(name), quoted(&hash), quoted(role)))
}

/// A name that Basic and Digest can carry.
fn check_name(user: &str) -> Result<(), String> {
    let is_bad = user.is_empty() || user.len() > LONGEST || user.contains([':', '"', '\\']);
    match is_bad || user.chars().any(char::is_control) {
        true => Err(format!("the user {user:?} needs another name, without `:`, `\"`, `\\` and control characters")),
        false => Ok(()),
    }
}

/// The member of `auth.users`.
fn entry(user: &str, role: &str, realm: Option<&str>, password: &str) -> Result<String, String> {
    let hash = hash(password).map_err(|error| format!("the password {error}"))?;
    let ha1 = realm.map_or(String::new(), |realm| {
        let ha1 = Hash::Sha256.ha1(user, realm, password);
        format!(", ha1: {}", quoted(&Hash::Sha256.stored(&ha1)))
    });
    Ok(format!("{}: {{password: {}{ha1}, role: {}}},\n", quoted(user), quoted(&hash), quoted(role)))
}

/// A text as JSON5 writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn ask() -> Result<String, String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line();
    }
    let quiet = Quiet::begin().map_err(|error| format!("the terminal cannot hide what is typed: {error}"))?;
    complain("Password:");
    let first = read_line()?;
    complain("Again:");
    let again = read_line()?;
    drop(quiet);
    if first == again { Ok(first) } else { Err("these were two different passwords".into()) }
}

/// Asks once, for a password that somebody else knows; without a terminal, reads a line of standard input.
#[cfg(feature = "fetch")]
pub fn ask_once() -> Result<String, String> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let quiet = Quiet::begin().map_err(|error| format!("the terminal cannot hide what is typed: {error}"))?;
    complain("Password:");
    let password = read_line();
    drop(quiet);
    password
}

fn read_line() -> Result<String, String> {
    let mut line = String::new();
    // One byte too long is enough to know.
    let mut input = io::stdin().lock().take(LONGEST as u64 + 2);
    input.read_line(&mut line).map_err(|error| format!("the password cannot be read: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal does not show what is typed, until this is dropped or a signal ends the program.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        // Whoever is asked may have second thoughts: Ctrl-C must not leave a terminal that shows nothing.
        let mut signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup, Signal::Quit, Signal::Tstp])?;
        let shown = before.clone();
        let wait = move || {
            while let Some(signal) = smol::block_on(signals.next()) {
                match signal {
                    // Stopped in between, the program would leave the terminal to the shell as it is: it goes on.
                    Ok(Signal::Tstp) | Err(_) => {}
                    Ok(signal) => {
                        show_again(&shown);
                        complain("");
                        std::process::exit(128 + signal as i32);
                    }
                }
            }
        };
        std::thread::Builder::new().name("ioto-signals".into()).spawn(wait)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        show_again(&self.0);
    }
}

fn show_again(before: &Termios) {
    let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_a_member_of_the_users() {
        let line = entry("jo", "admin", Some("web"), "pass").unwrap();
        let (front, back) = line.split_once("$argon2id$").unwrap();
        assert_eq!(front, "\"jo\": {password: \"");
        let ha1 = Hash::Sha256.ha1("jo", "web", "pass");
        assert!(back.ends_with(&format!("\", ha1: \"SHA256:{ha1}\", role: \"admin\"}},\n")), "{line}");
        assert!(!entry("jo", "admin", None, "pass").unwrap().contains("ha1"));
        entry("jo", "admin", None, "").unwrap_err();
        for bad in ["", "a:b", "a\"b", "a\nb"] {
            check_name(bad).unwrap_err();
        }
        check_name("Jörg M").unwrap();
    }
}
