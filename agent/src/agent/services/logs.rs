//! The forwarding of the operating system's logs as a service.

use std::sync::Arc;

use super::Before;
use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::config::{Config, LogSourceKind};
use crate::logs::sources::Reserved;
use crate::logs::{Ending, Figures, Input, Places, forward, sink, sources};
use crate::system::sandbox::Needs;

/// Plans it if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str, before: &Before) {
    if config.services.logs && config.logs.sink.is_some() {
        let (config, id, kernel) = (config.clone(), id.to_owned(), before.kernel.clone());
        let start = move |stop, report| run(config.clone(), id.clone(), kernel.clone(), stop, report);
        // What was read has to be written, and the sink to say that it has all.
        plan.add(Service::new("logs", start).with_parts(3));
    }
}

/// Opens what only root may: the kernel's buffer.
pub fn reserve(config: &Config) -> Reserved {
    match config.services.logs && config.logs.sink.is_some() {
        true => Reserved::open(&sources::resolve(&config.logs.sources)),
        false => Reserved::default(),
    }
}

/// What the sources read, the program that reads the journal, and the sink's certificates.
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
            // The directories above the journal's: it may be made later, when /var is there.
            LogSourceKind::Journal(journal) => needs.execute(journal.program).read("/run/log").read("/var/log"),
            LogSourceKind::Files(files) => files.paths.iter().fold(&mut *needs, Needs::file),
            LogSourceKind::Kernel(kernel) => needs.read(kernel.device),
        };
    }
}

/// Forwards until the stop.
async fn run(
    config: Config,
    device: String,
    kernel: Arc<Reserved>,
    stop: Stop,
    report: Report,
) -> Result<(), ServiceError> {
    let settings = &config.logs;
    let Some(sink) = sink::open(settings, &device)? else { return Err("logs.sink says nothing".into()) };
    let inputs = sources::resolve(&settings.sources).into_iter().map(|source| {
        let (name, kernel) = (source.name.clone(), kernel.clone());
        Input::new(name, move |position| sources::open(&source, position, &kernel))
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
