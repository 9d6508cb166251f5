//! The forwarding of the operating system's logs as a service.

use crate::agent::plan::{Plan, Service};
use crate::agent::{Report, ServiceError, Stop};
use crate::config::Config;
use crate::logs::{Ending, Figures, Input, Places, forward, sink, sources};

/// Plans it if it is wanted.
pub fn prepare(plan: &mut Plan, config: &Config, id: &str) {
    if config.services.logs && config.logs.sink.is_some() {
        let (config, id) = (config.clone(), id.to_owned());
        let start = move |stop, report| run(config.clone(), id.clone(), stop, report);
        // What was read has to be written, and the sink to say that it has all.
        plan.add(Service::new("logs", start).with_parts(3));
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
