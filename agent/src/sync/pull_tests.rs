use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::db::inbound::Incoming;
use crate::sync::hint::Removed;

const EARLY: &str = "2026-01-01T00:00:00.000Z";
const LATE: &str = "2026-01-01T00:00:09.000Z";

/// A puller, the time, and what it asked.
struct Bench {
    puller: Puller,
    now: Instant,
    asked: Vec<Scope>,
    /// What the index shows.
    latest: &'static str,
}

impl Bench {
    fn new() -> Self {
        let models = vec!["A".to_owned(), "B".to_owned()];
        let settings = Settings {
            models: models.clone(),
            has_index: true,
            every: Duration::from_secs(300),
            overlap: Duration::from_secs(120),
            whole_every: Duration::from_secs(100_000),
        };
        let whole: HashMap<String, i64> = models.into_iter().map(|model| (model, 1)).collect();
        let progress = Progress { watermark: Some(EARLY.to_owned()), whole: whole.into_iter().collect(), usage: None };
        let now = Instant::now();
        let mut bench =
            Self { puller: Puller::new(settings, &progress, now, 2, 7), now, asked: Vec::new(), latest: EARLY };
        bench.run(Duration::ZERO);
        assert_eq!(bench.taken(), ["changes"]);
        bench
    }

    /// Lets this time pass; questions are answered at once.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(action) = self.puller.poll(self.now) {
                match action {
                    Action::Query(query) => {
                        self.asked.push(query.scope.clone());
                        let item = Incoming { model: "A".into(), key: "k".into(), version: Some(1), item: None };
                        let latest = matches!(query.scope, Scope::Changes(_)).then(|| self.latest.to_owned());
                        self.puller.read(query.id, Ok(Page { items: vec![item], latest, next: None }), self.now);
                    }
                    Action::Apply(_) => self.puller.applied(0, self.now),
                }
            }
            match self.puller.deadline().filter(|at| *at <= end) {
                Some(at) => self.now = at.max(self.now),
                None => break,
            }
        }
        self.now = end;
    }

    fn hint(&mut self, latest: Option<&str>, removed: &[&str]) {
        let removed = Removed::Models(removed.iter().map(|model| (*model).to_owned()).collect());
        self.puller.hint(&Hint { latest: latest.map(str::to_owned), removed }, self.now);
    }

    fn taken(&mut self) -> Vec<String> {
        let names = self.asked.drain(..).map(|scope| match scope {
            Scope::Newest => "newest".to_owned(),
            Scope::Changes(_) => "changes".to_owned(),
            Scope::Model(model) => model,
        });
        names.collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_hint_is_a_question_at_once_and_none_later_if_the_page_had_the_change() {
    let mut bench = Bench::new();
    bench.run(SECOND);
    bench.latest = LATE;
    bench.hint(Some(LATE), &[]);
    bench.run(Duration::ZERO);
    assert_eq!(bench.taken(), ["changes"]);
    bench.run(SECOND * 60);
    assert_eq!(bench.taken(), [""; 0]);
}

#[test]
fn an_index_that_is_behind_is_asked_again_five_seconds_later_and_only_once() {
    let mut bench = Bench::new();
    bench.run(SECOND);
    bench.hint(Some(LATE), &[]);
    bench.run(SECOND * 4);
    assert_eq!(bench.taken(), ["changes"]);
    bench.run(SECOND);
    assert_eq!(bench.taken(), ["changes"]);
    bench.run(SECOND * 60);
    assert_eq!(bench.taken(), [""; 0]);
}

#[test]
fn ten_thousand_hints_in_a_second_are_two_questions_a_second() {
    let mut bench = Bench::new();
    bench.run(SECOND);
    for _ in 0..10_000 {
        bench.hint(Some(LATE), &["A", "B"]);
        bench.run(SECOND / 10_000);
    }
    let asked = bench.taken();
    assert!((2..=4).contains(&asked.iter().filter(|asked| *asked == "changes").count()), "{asked:?}");
    assert_eq!(asked.iter().filter(|asked| *asked == "A").count(), 1, "{asked:?}");
    bench.run(SECOND * 60);
    let later = bench.taken();
    assert_eq!(later.iter().filter(|asked| *asked == "A").count(), 1, "what was said since is read as well: {later:?}");
    assert!(later.len() <= 6, "{later:?}");
}

#[test]
fn models_that_items_were_deleted_of_are_read_as_a_whole_and_no_others() {
    let mut bench = Bench::new();
    bench.run(SECOND);
    bench.hint(None, &["B", "Unknown"]);
    bench.run(SECOND);
    assert_eq!(bench.taken(), ["B", "changes"]);
    bench.puller.hint(&Hint { latest: None, removed: Removed::All }, bench.now);
    bench.run(SECOND * 8);
    assert_eq!(bench.taken(), [""; 0], "a whole model is much: not at any time");
    bench.run(SECOND);
    assert_eq!(bench.taken(), ["A", "B", "changes"]);
}

#[test]
fn a_hint_for_nothing_that_comes_from_the_cloud_asks_nothing() {
    let mut bench = Bench::new();
    bench.hint(None, &["Unknown"]);
    bench.hint(None, &[]);
    bench.run(SECOND * 60);
    assert_eq!(bench.taken(), [""; 0]);
}

#[test]
fn a_connection_is_reason_to_ask_at_once_and_again() {
    let mut bench = Bench::new();
    bench.run(SECOND * 100);
    bench.puller.connected(bench.now);
    bench.run(Duration::ZERO);
    assert_eq!(bench.taken(), ["changes"]);
    bench.run(AGAIN);
    assert_eq!(bench.taken(), ["changes"]);
    bench.run(SECOND * 60);
    assert_eq!(bench.taken(), [""; 0]);
}

#[test]
fn what_is_not_answered_is_asked_anew_when_the_device_is_connected_again() {
    let mut bench = Bench::new();
    bench.run(SECOND * 500);
    bench.taken();
    bench.hint(Some(LATE), &[]);
    let Some(Action::Query(lost)) = bench.puller.poll(bench.now) else { panic!("it asks") };
    assert_eq!(bench.puller.poll(bench.now), None);
    bench.puller.connected(bench.now);
    let Some(Action::Query(query)) = bench.puller.poll(bench.now) else { panic!("it asks anew") };
    assert_ne!(query.id, lost.id);
    bench.puller.read(lost.id, Ok(Page { next: Some(json!(1)), ..Page::default() }), bench.now);
    assert_eq!(bench.puller.poll(bench.now), None, "a late page is nobody's");
}

#[test]
fn in_an_outage_hints_shorten_the_pause_to_five_seconds_and_a_connection_ends_it() {
    let mut bench = Bench::new();
    bench.run(SECOND * 500);
    let fail = |bench: &mut Bench| {
        let Some(Action::Query(query)) = bench.puller.poll(bench.now) else { panic!("it asks") };
        bench.puller.read(query.id, Err("no route".to_owned()), bench.now);
    };
    bench.hint(Some(LATE), &[]);
    for _ in 0..40 {
        fail(&mut bench);
        bench.now = bench.puller.deadline().unwrap();
    }
    fail(&mut bench);
    bench.hint(Some(LATE), &[]);
    let pause = bench.puller.deadline().unwrap() - bench.now;
    assert!(pause <= AGAIN, "{pause:?}");
    bench.puller.connected(bench.now);
    assert_eq!(bench.puller.deadline(), Some(bench.now));
}

#[test]
fn a_page_without_room_is_read_again_later_and_later_and_the_watermark_waits() {
    let mut bench = Bench::new();
    bench.latest = LATE;
    bench.run(Duration::from_secs(400));
    bench.taken();
    bench.hint(None, &["A"]);
    let mut times = Vec::new();
    while times.len() < 12 {
        match bench.puller.poll(bench.now) {
            Some(Action::Query(query)) => {
                times.push(bench.now);
                let page = Page { latest: Some("9".into()), ..Page::default() };
                bench.puller.read(query.id, Ok(page), bench.now);
            }
            Some(Action::Apply(_)) => bench.puller.refused("no room".into(), bench.now),
            None => bench.now = bench.puller.deadline().unwrap().max(bench.now),
        }
    }
    assert_eq!((bench.puller.error(), bench.puller.watermark.as_deref()), (Some("no room"), Some(LATE)));
    assert!(times[11] - times[0] > Duration::from_secs(60), "{:?}", times[11] - times[0]);
    bench.run(Duration::from_secs(600));
    assert_eq!(bench.puller.error(), None);
    assert!(bench.taken().contains(&"changes".to_owned()));
}

#[test]
fn the_time_that_many_pages_took_is_read_again() {
    let mut bench = Bench::new();
    bench.run(SECOND * 400);
    bench.asked.clear();
    bench.hint(Some(LATE), &[]);
    let mut marks = Vec::new();
    let (page, last) = ("2026-01-01T01:00:00.000Z", "2026-01-01T02:00:00.000Z");
    for (latest, next) in [(page, Some(json!({"sk": "k"}))), (last, None)] {
        let Some(Action::Query(query)) = bench.puller.poll(bench.now) else { panic!("no question") };
        bench.now += SECOND * 600;
        let page = Page { items: Vec::new(), latest: Some(latest.to_owned()), next };
        bench.puller.read(query.id, Ok(page), bench.now);
        let Some(Action::Apply(batch)) = bench.puller.poll(bench.now) else { panic!("nothing to apply") };
        marks.push(batch.watermark.unwrap());
        bench.puller.applied(0, bench.now);
    }
    assert_eq!(marks, [page, "2026-01-01T01:40:00.000Z"], "twenty minutes before the last");
}
