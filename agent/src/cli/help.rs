//! `--help`: one screen, made from the tables of commands.

use std::fmt::Write;

use super::commands::{COMMANDS, COMMON, Command, Opt};

/// Columns of what is explained; more when a command has longer options.
const WIDTH: usize = 18;

/// What `ioto --help` shows.
pub fn all() -> String {
    let mut text = String::from("ioto, the device agent\n\nUsage: ioto COMMAND [OPTIONS]\n\nCommands:\n");
    for command in COMMANDS {
        row(&mut text, &with_words(command), command.about);
    }
    text.push_str("\nOptions:\n");
    options(&mut text, COMMON);
    row(&mut text, "--help", "show this, or after a command what it takes");
    row(&mut text, "--version", "show the version");
    text.push_str("\nExit status: 0, 1 (failed), 2 (bad usage or bad configuration)\n");
    text
}

/// What `ioto COMMAND --help` shows.
pub fn of(command: &Command) -> String {
    let mut text = format!("Usage: ioto {} [OPTIONS]\n\n{}.\n", with_words(command), command.about);
    if !command.details.is_empty() {
        let _ = writeln!(text, "{}", command.details);
    }
    text.push_str("\nOptions:\n");
    options(&mut text, command.options);
    options(&mut text, COMMON);
    text
}

fn with_words(command: &Command) -> String {
    format!("{} {}", command.name, command.words).trim_end().to_owned()
}

fn options(text: &mut String, options: &[Opt]) {
    let names: Vec<String> = options.iter().map(name).collect();
    let width = names.iter().map(String::len).fold(WIDTH, usize::max);
    for (name, option) in names.iter().zip(options) {
        wide_row(text, width, name, option.about);
    }
}

fn name(option: &Opt) -> String {
    let short = option.short.map_or(String::new(), |letter| format!("-{letter}, "));
    match option.value {
        Some(value) => format!("{short}--{} {value}", option.name),
        None => format!("{short}--{}", option.name),
    }
}

fn row(text: &mut String, left: &str, right: &str) {
    wide_row(text, WIDTH, left, right);
}

fn wide_row(text: &mut String, width: usize, left: &str, right: &str) {
    let _ = writeln!(text, "  {left:<width$} {right}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_one_screen() {
        for text in COMMANDS.iter().map(of).chain([all()]) {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            // Commands that take the options of a program people know have more of them than lines are.
            let is_short =
                text.lines().count() <= 24 || text.lines().filter(|line| line.starts_with("  -")).count() > 16;
            assert!(is_short, "{text}");
        }
    }
}
