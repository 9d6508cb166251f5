//! How each kind of case is measured: round by round, one server after the other, so that noise hits all alike.

use std::collections::BTreeMap;
use std::time::Duration;

use ioto_tests::Scratch;

use crate::cases::{Case, Kind, Requests, SMALL};
use crate::load::{self, Load};
use crate::options::Options;
use crate::report::{Figure, Row};
use crate::servers::{Limits, Server, Site, Subject};
use crate::{Outcome, crowd, handshakes, idle, usage};

/// The server's core; the load runs where this program does, on another one.
const CORE: &str = "0";
/// Both, where the load must leave room for two threads.
const BOTH: &str = "0,1";
/// Seconds of load before the first round of a case.
const WARM_UP: u64 = 1;

pub struct Bench<'a> {
    options: &'a Options,
    site: Site<'a>,
}

impl<'a> Bench<'a> {
    pub fn new(options: &'a Options, scratch: &'a Scratch) -> Outcome<Self> {
        Ok(Self { options, site: Site::new(scratch)? })
    }

    pub fn run(&self, case: &'static Case) -> Outcome<Vec<Row>> {
        eprintln!("{}: {}", case.name, case.about);
        match case.kind {
            Kind::Requests(requests) => {
                let ours = if requests.file.starts_with("test/") { Subject::Actions } else { Subject::Ours };
                self.cpu(case, ours, |server, connections, seconds| {
                    // Only our servers have the action.
                    let path = if server.subject.is_ours() || ours == Subject::Ours { requests.file } else { SMALL };
                    let Requests { tls, close, .. } = requests;
                    load::run(&server.url(path, tls), connections, seconds, close, None)
                })
            }
            Kind::Handshakes => self.cpu(case, Subject::Ours, |server, connections, seconds| {
                handshakes::run(server.address(true), SMALL, connections, seconds)
            }),
            Kind::Idle { tls } => self.idle(case, tls),
            Kind::Threads => self.threads(case),
            Kind::Errors => self.errors(case),
        }
    }

    /// Ours first, then the peers.
    fn start(&self, case: &Case, ours: Subject, limits: Limits, cores: &str) -> Outcome<Vec<Server>> {
        let subjects = [&[ours], case.peers].concat();
        subjects.into_iter().map(|subject| self.site.start(subject, limits, cores)).collect()
    }

    fn cpu(
        &self,
        case: &'static Case,
        ours: Subject,
        load: impl Fn(&Server, usize, u64) -> Outcome<Load>,
    ) -> Outcome<Vec<Row>> {
        let servers = self.start(case, ours, Limits::Requests, CORE)?;
        for server in &servers {
            load(server, 10, WARM_UP)?;
        }
        let mut rows = Vec::new();
        for &connections in case.connections {
            let mut row = Row::new(case, connections);
            self.each_round(&servers, connections, |server| {
                let before = usage::cpu(&server.processes)?;
                let done = load(server, connections, self.options.seconds)?;
                let used = usage::cpu(&server.processes)? - before;
                let figure = row.figure(server.subject);
                figure.rounds.push(used.as_secs_f64() * 1e6 / done.requests as f64);
                figure.note_load(&done);
                figure.cores.push(used.as_secs_f64() / done.seconds);
                Ok(())
            })?;
            rows.push(row);
        }
        Ok(rows)
    }

    fn each_round(
        &self,
        servers: &[Server],
        connections: usize,
        mut measure: impl FnMut(&Server) -> Outcome<()>,
    ) -> Outcome<()> {
        for round in 1..=self.options.rounds {
            eprintln!("  {connections} connections, round {round} of {}", self.options.rounds);
            for server in servers {
                measure(server).map_err(|wrong| format!("{}: {wrong}", server.subject.column()))?;
            }
        }
        Ok(())
    }

    /// In servers that have served nobody else.
    fn idle(&self, case: &'static Case, tls: bool) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for &connections in case.connections {
            let mut row = Row::new(case, connections);
            for round in 1..=self.options.rounds.min(3) {
                eprintln!("  {connections} connections, round {round} of {}", self.options.rounds.min(3));
                for server in self.start(case, Subject::Ours, Limits::Connections, CORE)? {
                    let bytes = idle::memory_each(&server, tls, connections)
                        .map_err(|wrong| format!("{}: {wrong}", server.subject.column()))?;
                    row.figure(server.subject).rounds.push(bytes / 1024.0);
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Requests per second, and how many cores server and load took for them.
    fn threads(&self, case: &'static Case) -> Outcome<Vec<Row>> {
        let servers = self.start(case, Subject::TwoThreads, Limits::Requests, BOTH)?;
        let mut rows = Vec::new();
        for &connections in case.connections {
            let mut row = Row::new(case, connections);
            let mut shares: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            self.each_round(&servers, connections, |server| {
                let url = server.url("test/work", false);
                let before = (usage::cpu(&server.processes)?, usage::cpu_of_children()?);
                let done = load::run(&url, connections, self.options.seconds, false, Some(BOTH))?;
                let used = usage::cpu(&server.processes)? - before.0;
                let load = usage::cpu_of_children()? - before.1;
                let figure = row.figure(server.subject);
                figure.rounds.push(done.requests as f64 / done.seconds);
                figure.note_load(&done);
                figure.cores.push(used.as_secs_f64() / done.seconds);
                shares.entry(server.subject.column()).or_default().push(load.as_secs_f64() / done.seconds);
                Ok(())
            })?;
            for (subject, shares) in shares {
                row.notes.push(format!("{subject}: the load took {:.2} cores", Figure::middle(&shares)));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// All rounds in one go: waiting connections run into wrk's patience of 2 s only in a long one.
    fn errors(&self, case: &'static Case) -> Outcome<Vec<Row>> {
        let servers = self.start(case, Subject::Ours, Limits::Default, CORE)?;
        let seconds = (self.options.seconds * self.options.rounds as u64).max(5);
        let mut rows = Vec::new();
        for &connections in case.connections {
            let mut row = Row::new(case, connections);
            for server in &servers {
                eprintln!("  {connections} connections for {seconds} s, {}", server.subject.column());
                let done = load::run(&server.url(SMALL, false), connections, seconds, false, None)?;
                let figure = row.figure(server.subject);
                figure.rounds.push(done.errors as f64);
                figure.note_load(&done);
                let crowd = crowd::watch(server.address(false), connections, Duration::from_secs(seconds));
                row.notes.push(format!(
                    "{}: {} connections failed, {} clients had no answer in {seconds} s, the longest wait was {:.1} s",
                    server.subject.column(),
                    crowd.failed,
                    crowd.unanswered,
                    crowd.longest.as_secs_f64()
                ));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}
