//! Measures the web server beside lighttpd and nginx; `ci/bench web` builds it and runs it on the second core.

mod cases;
mod crowd;
mod handshakes;
mod idle;
mod interrupt;
mod load;
mod machine;
mod options;
mod report;
mod runs;
mod servers;
mod usage;

use std::process::ExitCode;

use ioto_tests::Scratch;

use self::options::Options;
use self::report::Report;
use self::runs::Bench;

/// What went wrong, in plain words.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("bench web: {wrong}; see ci/bench --help");
            return ExitCode::from(2);
        }
    };
    let scratch = Scratch::new();
    interrupt::clean_up_on_signals(scratch.path());
    match measure(&options, &scratch) {
        Ok(report) => {
            print!("{}", if options.json { report.json() } else { report.table() });
            match report.failures.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(wrong) => {
            eprintln!("bench web: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases. One that cannot be measured is noted, and the others follow.
fn measure(options: &Options, scratch: &Scratch) -> Outcome<Report> {
    let mut report = Report::new(machine::describe(), options);
    let bench = Bench::new(options, scratch)?;
    for case in options.cases() {
        match bench.run(case) {
            Ok(rows) => report.rows.extend(rows),
            Err(wrong) => {
                eprintln!("{}: {wrong}", case.name);
                report.failures.push((case.name, wrong));
            }
        }
    }
    Ok(report)
}
