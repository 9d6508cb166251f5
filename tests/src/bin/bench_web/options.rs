//! The command line.

use crate::Outcome;
use crate::cases::{CASES, Case};

pub struct Options {
    /// Names of cases; empty: all.
    pub wanted: Vec<String>,
    /// How often each server is measured; the median counts.
    pub rounds: usize,
    /// Seconds of load in each round.
    pub seconds: u64,
    pub json: bool,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { wanted: Vec::new(), rounds: 5, seconds: 2, json: false };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--rounds" => options.rounds = number(&argument, arguments.next())? as usize,
                "--seconds" => options.seconds = number(&argument, arguments.next())?,
                name if CASES.iter().any(|case| case.name == name) => options.wanted.push(argument),
                other => {
                    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
                    return Err(format!("unknown {other}, expected an option or a case of: {}", names.join(" ")));
                }
            }
        }
        Ok(options)
    }

    pub fn cases(&self) -> impl Iterator<Item = &'static Case> + '_ {
        CASES.iter().filter(|case| self.wanted.is_empty() || self.wanted.iter().any(|name| name == case.name))
    }
}

fn number(option: &str, value: Option<String>) -> Outcome<u64> {
    let number = value.and_then(|value| value.parse().ok()).filter(|number| (1..=1000).contains(number));
    number.ok_or_else(|| format!("{option} takes a number from 1 to 1000"))
}
