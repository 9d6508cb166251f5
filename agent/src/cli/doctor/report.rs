//! What was found.

use std::fmt;

use serde_json::{Value, json};

/// How well a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
    advice: String,
}

/// All findings, in order.
#[derive(Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// It is as it should be.
    pub fn ok(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, subject, text, "");
    }

    /// It works, and could be better; `advice` says what to do.
    pub fn warn(&mut self, subject: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Warn, subject, text, advice);
    }

    /// It does not work, or is not safe.
    pub fn fail(&mut self, subject: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Fail, subject, text, advice);
    }

    /// A finding of any level.
    pub fn add(&mut self, level: Level, subject: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { level, subject, text: text.into(), advice: advice.into() });
    }

    /// Whether anything failed.
    pub fn has_failed(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Fail)
    }

    /// A list of `{check, level, text, advice}`.
    pub fn to_json(&self) -> Value {
        let row = |finding: &Finding| {
            json!({
                "check": finding.subject,
                "level": finding.level.name(),
                "text": finding.text,
                "advice": finding.advice,
            })
        };
        self.0.iter().map(row).collect()
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, subject, text, advice } in &self.0 {
            writeln!(f, "{:4}  {subject:13} {text}", level.name())?;
            if !advice.is_empty() {
                writeln!(f, "      {:13} -> {advice}", "")?;
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        writeln!(f, "{} ok, {} to look at, {} failed", count(Level::Ok), count(Level::Warn), count(Level::Fail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_to_do_and_fails_only_for_failures() {
        let mut report = Report::default();
        report.ok("clock", "2026");
        report.warn("landlock", "missing", "add it to lsm=");
        assert!(!report.has_failed());
        report.fail("user", "root", "make a user");
        assert!(report.has_failed());
        let text = report.to_string();
        assert!(text.contains("ok    clock         2026\n"), "{text}");
        assert!(text.contains("warn  landlock      missing\n                    -> add it to lsm=\n"), "{text}");
        assert!(text.ends_with("1 ok, 1 to look at, 1 failed\n"), "{text}");
        assert_eq!(report.to_json()[2]["level"], "fail");
    }
}
