//! Keeps services running: starts them, starts them again with backoff when they fail, stops them in reverse order.

use std::error::Error;
use std::time::{Duration, Instant};

use smol::future::FutureExt;
use smol::{Task, Timer};

use super::board::{Board, Report};
use super::plan::{Executor, Service};
use super::stop::{self, Stop, Stopper};
use crate::net::Backoff;

/// Whatever made a service end.
pub type ServiceError = Box<dyn Error>;

/// The first pause before a failed service is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A device that nobody watches must not wait for hours on a fault that has passed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// A service that ran this long failed for a new reason; its backoff begins anew.
const STABLE: Duration = Duration::from_secs(5 * 60);

/// The services of the agent.
pub struct Supervisor {
    executor: Executor,
    board: Board,
    running: Vec<Running>,
}

struct Running {
    name: &'static str,
    parts: u32,
    stopper: Stopper,
    task: Task<()>,
}

impl Supervisor {
    /// Services will run on `executor` and report on `board`.
    pub fn new(executor: Executor, board: Board) -> Self {
        Self { executor, board, running: Vec::new() }
    }

    /// Starts a service and keeps it running.
    pub fn start(&mut self, service: Service) {
        let (stopper, stop) = stop::pair();
        let (name, parts) = (service.name, service.parts);
        let task = self.executor.spawn(supervise(service, stop, self.board.add(name)));
        self.running.push(Running { name, parts, stopper, task });
    }

    /// Stops all services, the last started first, within `limit` in all. One that takes longer than its share of what is
    /// left is cut off.
    pub async fn stop(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Some(Running { name, parts, stopper, task }) = self.running.pop() {
            stopper.stop();
            let all: u32 = self.running.iter().map(|running| running.parts).sum::<u32>() + parts;
            let share = deadline.saturating_duration_since(Instant::now()) * parts / all;
            let in_time = async {
                task.await;
                true
            };
            let too_late = async {
                Timer::after(share).await;
                false
            };
            if !in_time.or(too_late).await {
                log::warn!("{name} did not end in time and was cut off");
            }
        }
    }
}

async fn supervise(service: Service, stop: Stop, report: Report) {
    let name = service.name;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while !stop.is_requested() {
        let started = Instant::now();
        let error = match service.start(stop.clone(), report.clone()).await {
            Ok(()) if stop.is_requested() => break,
            Ok(()) => "it ended by itself".to_owned(),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= STABLE {
            backoff.reset();
        }
        let pause = backoff.next();
        log::error!("{name} failed and is started again in {:.1} s: {error}", pause.as_secs_f64());
        report.failed(&error, pause);
        let over = async {
            Timer::after(pause).await;
        };
        stop.requested().or(over).await;
    }
    report.stopped();
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::agent::State;

    #[test]
    fn a_service_that_fails_is_started_again_while_the_others_run_on() {
        let executor = Executor::default();
        let board = Board::default();
        let mut supervisor = Supervisor::new(executor.clone(), board.clone());
        let starts = Rc::new(Cell::new(0));
        let counter = starts.clone();
        supervisor.start(Service::new("steady", |stop: Stop, report: Report| async move {
            report.running();
            stop.requested().await;
            Ok(())
        }));
        supervisor.start(Service::new("shaky", move |_, _| {
            counter.set(counter.get() + 1);
            async { Err("out of luck".into()) }
        }));
        smol::block_on(executor.run(async {
            while starts.get() < 2 {
                Timer::after(Duration::from_millis(10)).await;
            }
            assert_eq!(board.state("steady"), Some(State::Running));
            supervisor.stop(Duration::from_secs(5)).await;
        }));
        assert_eq!(board.state("steady"), Some(State::Stopped));
        assert_eq!(board.state("shaky"), Some(State::Stopped));
    }

    #[test]
    fn a_service_that_needs_more_time_to_stop_has_it() {
        let executor = Executor::default();
        let mut supervisor = Supervisor::new(executor.clone(), Board::default());
        let has_ended = Rc::new(Cell::new(false));
        let ended = has_ended.clone();
        supervisor.start(Service::new("quick", |_, _| std::future::pending()));
        let slow = Service::new("slow", move |stop: Stop, _| {
            let ended = ended.clone();
            async move {
                stop.requested().await;
                Timer::after(Duration::from_millis(300)).await;
                ended.set(true);
                Ok(())
            }
        });
        supervisor.start(slow.with_parts(9));
        let began = Instant::now();
        smol::block_on(executor.run(async {
            smol::future::yield_now().await;
            supervisor.stop(Duration::from_millis(500)).await;
        }));
        assert!(has_ended.get());
        assert!(began.elapsed() < Duration::from_millis(800));
    }

    #[test]
    fn services_stop_in_reverse_and_one_that_hangs_is_cut_off() {
        let executor = Executor::default();
        let mut supervisor = Supervisor::new(executor.clone(), Board::default());
        let ended = Rc::new(RefCell::new(Vec::new()));
        for name in ["first", "second"] {
            let ended = ended.clone();
            supervisor.start(Service::new(name, move |stop: Stop, _| {
                let ended = ended.clone();
                async move {
                    stop.requested().await;
                    ended.borrow_mut().push(name);
                    Ok(())
                }
            }));
        }
        supervisor.start(Service::new("hanging", |_, _| std::future::pending()));
        smol::block_on(executor.run(async {
            smol::future::yield_now().await;
            supervisor.stop(Duration::from_millis(200)).await;
        }));
        assert_eq!(*ended.borrow(), ["second", "first"]);
    }
}
