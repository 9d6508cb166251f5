//! The forwarding of the operating system's logs as a service.

use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::config::{Config, LogSourceKind};
use crate::logs::{Ending, Figures, Input, Places, forward, sink, sources};
use crate::system::sandbox::Needs;

/// What `journalctl` reads: the journals, and which of them is this system's.
const JOURNALS: [&str; 4] = ["/run/log/journal", "/var/log/journal", "/run/systemd/journal", "/etc/machine-id"];

/// Plans it if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str) {
    if config.services.logs && config.logs.sink.is_some() {
        let (config, id) = (config.clone(), id.to_owned());
        let start = move |stop, report| run(config.clone(), id.clone(), stop, report);
        // What was read has to be written, and the sink to say that it has all.
        plan.add(Service::new("logs", start).with_parts(3));
    }
}

/// The sources, the sink's certificates.
pub fn needs(needs: &mut Needs, config: &Config) {
    let settings = &config.logs;
    if !config.services.logs || settings.sink.is_none() {
        return;
    }
    for file in [&settings.authority, &settings.certificate, &settings.key].into_iter().flatten() {
        needs.file(file);
    }
    for source in sources::resolve(&settings.sources) {
        match source.kind {
            LogSourceKind::Journal(journal) => {
                needs.execute(journal.program);
                for path in JOURNALS {
                    needs.read(path);
                }
            }
            // Rotated files lie beside them, and new ones may match.
            LogSourceKind::Files(files) => {
                for path in &files.paths {
                    needs.file(path);
                }
            }
            LogSourceKind::Kernel(kernel) => {
                needs.read(kernel.device);
            }
        }
    }
}

/// Forwards until the stop.
async fn run(config: Config, device: String, stop: Stop, report: Report) -> Result<(), ServiceError> {
    let settings = &config.logs;
    let Some(sink) = sink::open(settings, &device)? else { return Err("logs.sink says nothing".into()) };
    let inputs = sources::resolve(&settings.sources).into_iter().map(|source| {
        let name = source.name.clone();
        Input::new(name, move |position| sources::open(&source, position))
    });
    let figures = Figures::default();
    report.figures({
        let figures = figures.clone();
        move || figures.to_json()
    });
    report.running();
    let places = Places::new(&config.directories.state, &config.directories.run);
    forward(settings, &places, inputs.collect(), sink, figures, stop).await?;
    Ok(())
}

impl Ending for Stop {
    fn wished(&self) -> impl Future<Output = ()> {
        self.requested()
    }
}
