//! Is the configuration valid?

use super::{Around, Report};

pub fn check(around: &Around, report: &mut Report) {
    match &around.problems {
        None if around.warnings.is_empty() => report.ok("configuration", "valid"),
        None => {
            let count = around.warnings.len();
            report.ok("configuration", format!("valid, with {count} warnings (`ioto config check` shows them)"));
        }
        Some(problems) => {
            report.fail(
                "configuration",
                problems.replace('\n', "; "),
                "correct it; the checks below take the defaults",
            );
        }
    }
}
