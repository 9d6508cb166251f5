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
    schema(around, report);
}

/// Are the models as a schema has to be?
#[cfg(feature = "db")]
fn schema(around: &Around, report: &mut Report) {
    if !around.config.services.database {
        return;
    }
    match ioto::db::Schema::load(&around.config.database.schema) {
        Ok(schema) => report.ok("schema", format!("{} models", schema.models().count())),
        Err(error) => {
            report.fail("schema", error.to_string().replace('\n', "; "), "correct it; the agent does not start")
        }
    }
}

#[cfg(not(feature = "db"))]
fn schema(_: &Around, _: &mut Report) {}
