//! The figures, beside the goals: a table, or JSON.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::cases::{Against, Case, Goal};
use crate::load::Load;
use crate::machine::Facts;
use crate::options::Options;
use crate::servers::Subject;

/// The columns of servers.
const COLUMNS: [&str; 4] = ["ours", "lighttpd", "nginx", "1 thread"];

pub struct Report {
    facts: Facts,
    pub rows: Vec<Row>,
    /// Cases that could not be measured, and why.
    pub failures: Vec<(&'static str, String)>,
}

/// A case with one number of connections.
pub struct Row {
    case: &'static Case,
    connections: usize,
    figures: Vec<(Subject, Figure)>,
    pub notes: Vec<String>,
}

/// What one server achieved.
#[derive(Default)]
pub struct Figure {
    /// A figure for each round; the median counts.
    pub rounds: Vec<f64>,
    /// Cores that the server was busy on.
    pub cores: Vec<f64>,
    rates: Vec<f64>,
    errors: u64,
    complaints: Vec<String>,
}

impl Figure {
    pub fn note_load(&mut self, load: &Load) {
        self.rates.push(load.requests as f64 / load.seconds);
        self.errors += load.errors;
        self.complaints.extend(load.complaints.iter().cloned());
    }

    fn median(&self) -> f64 {
        Self::middle(&self.rounds)
    }

    /// The median; the upper one of two.
    pub fn middle(values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// A goal, and what came of it.
struct Verdict {
    goal: String,
    ratio: Option<f64>,
    is_met: bool,
}

impl Row {
    pub fn new(case: &'static Case, connections: usize) -> Self {
        Self { case, connections, figures: Vec::new(), notes: Vec::new() }
    }

    /// That of a server, to be filled.
    pub fn figure(&mut self, subject: Subject) -> &mut Figure {
        let known = self.figures.iter().position(|(known, _)| *known == subject);
        let place = known.unwrap_or_else(|| {
            self.figures.push((subject, Figure::default()));
            self.figures.len() - 1
        });
        &mut self.figures[place].1
    }

    fn in_column(&self, column: &str) -> Option<&Figure> {
        self.figures.iter().find(|(subject, _)| subject.column() == column).map(|(_, figure)| figure)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let goals = self.case.goals.iter().filter(|goal| goal.at.is_none_or(|at| at == self.connections));
        goals.filter_map(|goal| self.judge(goal)).collect()
    }

    fn judge(&self, goal: &Goal) -> Option<Verdict> {
        let ours = self.in_column("ours")?.median();
        let limit = goal.limit;
        Some(match goal.against {
            Against::Times(peer) => {
                let ratio = ours / self.in_column(peer.column())?.median();
                Verdict { goal: format!("<= {limit:.2} {}", peer.column()), ratio: Some(ratio), is_met: ratio <= limit }
            }
            Against::OneThread => {
                let ratio = ours / self.in_column(Subject::OneThread.column())?.median();
                Verdict { goal: format!(">= {limit:.2} 1 thread"), ratio: Some(ratio), is_met: ratio >= limit }
            }
            Against::Figure => {
                Verdict { goal: format!("<= {limit} {}", self.case.unit), ratio: None, is_met: ours <= limit }
            }
        })
    }

    /// What does not fit into the columns.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        for (subject, figure) in &self.figures {
            if figure.errors > 0 {
                let what = figure.complaints.first().map_or("", String::as_str);
                remarks.push(format!("{}: {} errors ({what})", subject.column(), figure.errors));
            }
            if *subject == Subject::TwoThreads || *subject == Subject::OneThread {
                remarks.push(format!(
                    "{}: the server took {:.2} cores",
                    subject.column(),
                    Figure::middle(&figure.cores)
                ));
            }
        }
        remarks
    }
}

impl Report {
    pub fn new(facts: Facts, options: &Options) -> Self {
        let mut facts = facts;
        facts.push(("rounds", format!("{} of {} s, the median counts", options.rounds, options.seconds)));
        Self { facts, rows: Vec::new(), failures: Vec::new() }
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "{name:<13} {fact}");
        }
        let _ = write!(text, "\n{:<11}{:>5}  {:<11}", "case", "conn", "unit");
        for column in COLUMNS {
            let _ = write!(text, "{column:>10}");
        }
        let _ = writeln!(text, "{:>8}  {:<19}verdict", "ratio", "goal");
        for row in &self.rows {
            let _ = write!(text, "{:<11}{:>5}  {:<11}", row.case.name, row.connections, row.case.unit);
            for column in COLUMNS {
                let figure = row.in_column(column).map_or_else(|| "-".to_owned(), |figure| shown(figure.median()));
                let _ = write!(text, "{figure:>10}");
            }
            for (number, verdict) in row.verdicts().iter().enumerate() {
                if number > 0 {
                    let _ = write!(text, "\n{:69}", "");
                }
                let ratio = verdict.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                let met = if verdict.is_met { "met" } else { "missed" };
                let _ = write!(text, "{ratio:>8}  {:<19}{met}", verdict.goal);
            }
            text.push('\n');
            for remark in row.remarks() {
                let _ = writeln!(text, "{:18}{remark}", "");
            }
        }
        for (case, wrong) in &self.failures {
            let _ = writeln!(text, "{case:<11}not measured: {wrong}");
        }
        text
    }

    pub fn json(&self) -> String {
        let rows: Vec<Json> = self.rows.iter().map(Row::json).collect();
        let failures: Vec<Json> =
            self.failures.iter().map(|(case, wrong)| json!({"case": case, "reason": wrong})).collect();
        let machine: serde_json::Map<_, _> =
            self.facts.iter().map(|(name, fact)| ((*name).to_owned(), Json::from(fact.as_str()))).collect();
        let report = json!({"machine": machine, "rows": rows, "failures": failures});
        format!("{report:#}\n")
    }
}

impl Row {
    fn json(&self) -> Json {
        let figures: serde_json::Map<_, _> = self
            .figures
            .iter()
            .map(|(subject, figure)| {
                let value = json!({
                    "median": figure.median(),
                    "rounds": figure.rounds,
                    "requestsPerSecond": (!figure.rates.is_empty()).then(|| Figure::middle(&figure.rates)),
                    "cores": (!figure.cores.is_empty()).then(|| Figure::middle(&figure.cores)),
                    "errors": figure.errors,
                    "complaints": figure.complaints,
                });
                (subject.column().to_owned(), value)
            })
            .collect();
        let verdict = |verdict: &Verdict| json!({"goal": verdict.goal, "ratio": verdict.ratio, "met": verdict.is_met});
        let goals: Vec<Json> = self.verdicts().iter().map(verdict).collect();
        json!({
            "case": self.case.name, "about": self.case.about, "connections": self.connections, "unit": self.case.unit,
            "figures": figures, "goals": goals, "notes": self.notes,
        })
    }
}

fn shown(figure: f64) -> String {
    match figure.abs() {
        large if large >= 1000.0 => format!("{figure:.0}"),
        middle if middle >= 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
