use super::*;
use crate::db::changelog::Outcome;
use crate::sync::item::Current;

struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new(window: usize, delay: Duration) -> Self {
        Self::with_journals(window, delay, &[])
    }

    fn with_journals(window: usize, delay: Duration, journals: &[&str]) -> Self {
        let (thing, site, policies) = ("lamp".to_owned(), "s1".to_owned(), HashMap::new());
        let journals = journals.iter().map(|model| (*model).to_owned()).collect();
        let engine = Engine::new(
            Settings { thing, site, window, batch: 3, journals, gather: Duration::ZERO, delay, policies },
            1,
        );
        Self { engine, now: Instant::now() }
    }

    fn poll(&mut self) -> Option<Action> {
        self.engine.poll(self.now)
    }

    fn read(&mut self) -> (usize, HashSet<Key>) {
        match self.poll() {
            Some(Action::Read { limit, exclude }) => (limit, exclude),
            other => panic!("{other:?}"),
        }
    }

    /// Hands out these rows, and returns the ids of the pushes that follow.
    fn rows(&mut self, rows: &[(&str, u64)]) -> Vec<u64> {
        self.engine.pending(rows.iter().map(|(key, n)| row(key, *n)).collect());
        self.pushes()
    }

    /// The row `bad` is not due for an hour or so.
    fn with_a_row_refused_for_long() -> Self {
        let mut bench = Self::new(1, Duration::ZERO);
        for _ in 0..12 {
            bench.now += PARK_CAP;
            bench.read();
            let ids = bench.rows(&[("bad", 1)]);
            bench.answer(ids[0], Answer::Refused("too large".to_owned()));
        }
        bench.read();
        bench.rows(&[]);
        bench
    }

    fn pushes(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        loop {
            match self.poll() {
                Some(Action::Push(pushes)) => ids.extend(pushes.iter().map(|push| push.id)),
                Some(Action::Read { .. }) => self.engine.pending(Vec::new()),
                Some(other) => panic!("{other:?}"),
                None => return ids,
            }
        }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        self.engine.answered(id, answer, self.now);
    }

    fn settle(&mut self) -> Vec<Settlement> {
        match self.poll() {
            Some(Action::Settle(settlements)) => {
                self.engine.settled(self.now);
                settlements
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the engine wants to be called. Returns how long that took.
    fn wait(&mut self) -> Duration {
        let deadline = self.engine.deadline().expect("something to wait for");
        assert!(deadline > self.now, "poll first");
        let waited = deadline - self.now;
        self.now = deadline;
        waited
    }
}

fn row(key: &str, n: u64) -> Pending {
    let (model, key) = ("Reading".to_owned(), key.to_owned());
    Pending {
        model,
        key,
        n,
        op: [n as u8; 16],
        base: 0,
        is_anew: false,
        item: Some(Default::default()),
        changed: 0,
        recorded: 0,
    }
}

fn failed() -> Answer {
    Answer::Failed("no route".to_owned())
}

#[test]
fn it_begins_with_reading_the_log_and_rests_when_that_is_empty() {
    let mut bench = Bench::new(4, Duration::ZERO);
    assert_eq!(bench.read(), (4, HashSet::new()));
    assert!(bench.poll().is_none(), "one reading at a time");
    assert!(bench.rows(&[]).is_empty());
    assert_eq!(bench.engine.deadline(), None);
    bench.engine.recorded(bench.now);
    assert_eq!(bench.read().0, 4);
}

#[test]
fn rows_go_in_the_order_of_the_log_and_each_once_until_it_is_settled() {
    let mut bench = Bench::new(2, Duration::ZERO);
    bench.read();
    bench.engine.pending(vec![row("b", 1), row("a", 2)]);
    let mut keys = Vec::new();
    while let Some(Action::Push(pushes)) = bench.poll() {
        keys.extend(pushes.iter().map(|push| push.row.key.clone()));
    }
    assert_eq!(keys, ["b", "a"]);
    bench.answer(1, Answer::Stored);
    let settlements = bench.settle();
    assert_eq!((settlements.len(), &*settlements[0].key, &settlements[0].outcome), (1, "b", &Outcome::Applied));
    let (limit, exclude) = bench.read();
    assert_eq!((limit, exclude), (1, HashSet::from([("Reading".to_owned(), "a".to_owned())])));
}

#[test]
fn answers_that_come_during_a_settlement_share_the_next() {
    let mut bench = Bench::new(3, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1), ("b", 2), ("c", 3)]);
    bench.answer(ids[0], Answer::Stored);
    assert!(matches!(bench.poll(), Some(Action::Settle(settlements)) if settlements.len() == 1));
    bench.answer(ids[1], Answer::Stored);
    bench.answer(ids[2], Answer::Stored);
    assert!(bench.pushes().is_empty());
    bench.engine.settled(bench.now);
    assert_eq!(bench.settle().len(), 2);
    assert_eq!(bench.engine.report().pushed, 3);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut bench = Bench::new(1, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0] + 1, Answer::Stored);
    bench.answer(ids[0], Answer::Stored);
    bench.answer(ids[0], failed());
    assert_eq!(bench.settle().len(), 1);
    assert!(!bench.engine.report().down);
}

#[test]
fn an_outage_pauses_everything_and_one_row_tries() {
    let mut bench = Bench::new(4, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    for id in ids {
        bench.answer(id, failed());
    }
    assert!(bench.engine.report().down);
    assert_eq!(bench.engine.report().error.as_deref(), Some("no route"));
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let mut waited = Duration::ZERO;
        let ids = loop {
            waited += bench.wait();
            match bench.poll() {
                Some(Action::Read { limit, .. }) => {
                    assert_eq!(limit, 1);
                    break bench.rows(&[("a", 1)]);
                }
                None => {}
                other => panic!("{other:?}"),
            }
        };
        longest = longest.max(waited);
        assert_eq!(ids.len(), 1);
        bench.answer(ids[0], failed());
    }
    assert!(longest > Duration::from_secs(100) && longest <= Duration::from_secs(600), "{longest:?}");

    while !matches!(bench.poll(), Some(Action::Read { .. })) {
        bench.wait();
    }
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0], Answer::Stored);
    bench.settle();
    assert!(!bench.engine.report().down);
    assert_eq!(bench.read().0, 4, "the window is open again");
}

#[test]
fn the_failures_of_one_moment_are_one_setback() {
    let mut bench = Bench::new(64, Duration::ZERO);
    bench.read();
    let keys: Vec<_> = (0..64).map(|n| format!("k{n}")).collect();
    let rows: Vec<_> = keys.iter().zip(1..).map(|(key, n)| (&**key, n)).collect();
    for id in bench.rows(&rows) {
        bench.answer(id, failed());
    }
    assert!(bench.engine.pace.paused_until().unwrap() - bench.now <= Duration::from_secs(1));
}

#[test]
fn throttling_halves_the_window_and_success_opens_it_again() {
    let mut bench = Bench::new(8, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1), ("b", 2)]);
    bench.answer(ids[0], Answer::Throttled("slow".to_owned()));
    bench.answer(ids[1], Answer::Throttled("slow".to_owned()));
    assert_eq!(bench.engine.pace.window(), 4);
    assert!(!bench.engine.report().down);
    let mut n = 2;
    while bench.engine.pace.window() < 8 {
        bench.now += Duration::from_secs(10);
        bench.engine.recorded(bench.now);
        let (limit, _) = bench.read();
        assert_eq!(limit, bench.engine.pace.window());
        n += 1;
        let ids = bench.rows(&[("c", n)]);
        bench.answer(ids[0], Answer::Stored);
        bench.settle();
        assert!(n < 40, "it never opens");
    }
    assert_eq!(n, 2 + 4 + 5 + 6 + 7);
}

#[test]
fn a_refused_row_waits_and_the_others_go_on() {
    let mut bench = Bench::new(2, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("bad", 1), ("good", 2)]);
    bench.answer(ids[0], Answer::Refused("too large".to_owned()));
    bench.answer(ids[1], Answer::Stored);
    assert_eq!(bench.settle().len(), 1);
    let report = bench.engine.report();
    let (model, key) = ("Reading".to_owned(), "bad".to_owned());
    assert_eq!(report.parked, 1);
    assert_eq!(report.examples, [Parked { model, key, reason: "too large".to_owned(), tries: 1 }]);
    assert!(!report.down);

    // The first look may find it put right; it is not.
    let (limit, exclude) = bench.read();
    assert_eq!((limit, exclude.len()), (3, 0));
    assert!(bench.rows(&[("bad", 1)]).is_empty());
    let mut waits = Vec::new();
    for _ in 0..12 {
        let mut waited = Duration::ZERO;
        let ids = loop {
            if !matches!(bench.poll(), Some(Action::Read { .. })) {
                waited += bench.wait();
                continue;
            }
            let ids = bench.rows(&[("bad", 1)]);
            if !ids.is_empty() {
                break ids;
            }
        };
        waits.push(waited);
        bench.answer(ids[0], Answer::Refused("too large".to_owned()));
    }
    assert!(waits.iter().all(|wait| *wait <= PARK_CAP), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 10 * PARK_BASE), "{waits:?}");
}

#[test]
fn a_refused_row_that_was_put_right_goes_at_the_next_look() {
    let mut bench = Bench::new(1, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("bad", 1)]);
    bench.answer(ids[0], Answer::Refused("too large".to_owned()));
    bench.read();
    assert!(bench.rows(&[("bad", 1)]).is_empty());
    bench.engine.recorded(bench.now);
    assert_eq!(bench.read().1.len(), 1, "not before its time");
    bench.rows(&[]);
    let mut waited = Duration::ZERO;
    let ids = loop {
        waited += bench.wait();
        if matches!(bench.poll(), Some(Action::Read { exclude, .. }) if exclude.is_empty()) {
            break bench.rows(&[("bad", 2)]);
        }
    };
    assert!(waited <= LOOK, "{waited:?}");
    bench.answer(ids[0], Answer::Stored);
    assert_eq!(bench.settle().len(), 1);
    assert_eq!(bench.engine.report().parked, 0);
}

#[test]
fn a_refused_row_that_older_rows_kept_from_being_read_is_looked_at_again() {
    let mut bench = Bench::with_a_row_refused_for_long();
    let mut next_look = |older: &[(&str, u64)]| {
        let begun = bench.now;
        loop {
            match bench.poll() {
                Some(Action::Read { exclude, .. }) if exclude.is_empty() => break,
                Some(Action::Read { .. }) => drop(bench.rows(&[])),
                _ => drop(bench.wait()),
            }
        }
        for id in bench.rows(older) {
            bench.answer(id, Answer::Stored);
            bench.settle();
        }
        bench.now - begun
    };
    next_look(&[("older", 0)]);
    let waited = next_look(&[]);
    assert!(waited <= LOOK, "{waited:?}");
}

#[test]
fn a_look_that_a_restart_cut_off_is_taken_again() {
    let mut bench = Bench::with_a_row_refused_for_long();
    let mut looks = Vec::new();
    while looks.len() < 2 {
        match bench.poll() {
            Some(Action::Read { exclude, .. }) if exclude.is_empty() => {
                looks.push(bench.now);
                bench.engine.restart();
            }
            Some(Action::Read { .. }) => drop(bench.rows(&[])),
            _ => drop(bench.wait()),
        }
    }
    assert!(looks[1] - looks[0] <= LOOK, "{looks:?}");
}

#[test]
fn a_delay_lets_later_changes_come_along() {
    let delay = Duration::from_secs(5);
    let mut bench = Bench::new(1, delay);
    bench.read();
    bench.rows(&[]);
    bench.engine.recorded(bench.now);
    assert!(bench.poll().is_none());
    assert_eq!(bench.wait(), delay);
    bench.read();
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0], Answer::Stored);
    bench.settle();
    let (_, exclude) = bench.read();
    assert_eq!(exclude.len(), 1, "what was just sent waits for its next changes");
    bench.rows(&[]);
    assert_eq!(bench.wait(), delay);
    assert_eq!(bench.read().1.len(), 0);
}

#[test]
fn a_delay_does_not_hold_up_a_backlog() {
    let mut bench = Bench::new(1, Duration::from_secs(5));
    bench.read();
    bench.engine.recorded(bench.now);
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0], Answer::Stored);
    bench.settle();
    bench.read();
}

#[test]
fn a_row_that_others_write_all_the_time_waits_between_its_tries() {
    let mut bench = Bench::new(1, Duration::ZERO);
    let mut at_once = 0;
    for version in 1..=20 {
        while !matches!(bench.poll(), Some(Action::Read { .. })) {
            bench.wait();
            at_once = 20;
        }
        at_once += u32::from(at_once < 20);
        let ids = bench.rows(&[("a", 1)]);
        let theirs = Current { version: Some(version), item: Some(Default::default()), ..Current::default() };
        bench.answer(ids[0], Answer::Differs(Some(Box::new(theirs))));
        assert_eq!(bench.settle()[0].outcome, Outcome::Rebase);
        assert!(version > u64::from(AT_ONCE) || at_once < 20, "waits after {version} tries");
    }
    assert_eq!(at_once, 20);
}

#[test]
fn so_many_refused_rows_stop_the_reading_until_one_is_due() {
    let mut bench = Bench::new(256, Duration::ZERO);
    let mut n = 0;
    for _ in 0..WAITING / 256 {
        let (limit, exclude) = bench.read();
        assert!(exclude.len() < WAITING);
        let keys: Vec<_> = (0..256).map(|key| format!("k{}", n + key)).collect();
        let rows: Vec<_> = keys.iter().zip(n + 1..).map(|(key, n)| (&**key, n)).collect();
        n += 256;
        assert!(limit >= 256);
        for id in bench.rows(&rows) {
            bench.answer(id, Answer::Refused("never".to_owned()));
        }
        bench.engine.recorded(bench.now);
    }
    assert!(bench.poll().is_none());
    assert_eq!(bench.engine.report().parked, WAITING);
    assert_eq!(bench.engine.report().examples.len(), LOOKED_AT);
    assert!(bench.engine.deadline().is_some());
    bench.wait();
    bench.read();
}

#[test]
fn a_restart_forgets_what_was_on_its_way_and_keeps_what_waits() {
    let mut bench = Bench::new(4, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("bad", 1), ("a", 2), ("b", 3)]);
    bench.answer(ids[0], Answer::Refused("too large".to_owned()));
    bench.answer(ids[1], Answer::Stored);
    bench.engine.restart();
    bench.answer(ids[2], Answer::Stored);
    assert_eq!(bench.read().0, 5);
    assert_eq!(bench.rows(&[("bad", 1), ("a", 2), ("b", 3)]).len(), 2);
}

#[test]
fn what_an_outage_holds_up_is_tried_when_there_is_reason_to_believe_that_it_is_over() {
    let mut bench = Bench::new(4, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1), ("b", 2), ("c", 3)]);
    for id in &ids[..2] {
        bench.answer(*id, failed());
    }
    assert!(bench.engine.report().down && bench.poll().is_none(), "it pauses");
    bench.engine.try_now();
    let (limit, exclude) = bench.read();
    assert_eq!((limit, exclude.len()), (1, 1), "beside the one of which nothing is heard");
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0], failed());
    assert!(bench.engine.report().down, "it was not over");
    bench.engine.try_now();
    bench.read();
    let ids = bench.rows(&[("b", 2)]);
    bench.answer(ids[0], Answer::Stored);
    assert_eq!(bench.settle().len(), 1);
    assert!(!bench.engine.report().down);
}

#[test]
fn refused_rows_wait_on_when_the_device_is_connected_again() {
    let mut bench = Bench::new(4, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1)]);
    bench.answer(ids[0], Answer::Refused("too large".to_owned()));
    bench.engine.try_now();
    assert_eq!(bench.engine.report().parked, 1);
    assert_eq!(bench.pushes(), [0; 0]);
}

#[test]
fn after_an_hour_of_outage_what_waits_is_sent_as_soon_as_the_device_is_connected() {
    let mut bench = Bench::new(4, Duration::ZERO);
    let end = bench.now + Duration::from_secs(60 * 60);
    let (mut tries, mut is_read) = (0, false);
    while bench.now < end {
        match bench.poll() {
            Some(Action::Read { exclude, .. }) => {
                let key = |key: &str| ("Reading".to_owned(), key.to_owned());
                let waiting = ["a", "b", "c"].into_iter().filter(|name| !exclude.contains(&key(name)) && !is_read);
                bench.engine.pending(waiting.map(|name| row(name, 1)).collect());
                is_read = true;
            }
            Some(Action::Push(pushes)) => {
                bench.answer(pushes[0].id, failed());
                tries += 1;
            }
            Some(other) => panic!("{other:?}"),
            None => {
                is_read = false;
                bench.wait();
            }
        }
    }
    assert!((10..200).contains(&tries), "{tries} tries");
    bench.engine.try_now();
    bench.read();
    let sent = bench.rows(&[("a", 1), ("b", 1), ("c", 1)]);
    assert!(!sent.is_empty(), "without waiting for any pause");
    bench.answer(sent[0], Answer::Stored);
    bench.settle();
    assert!(!bench.pushes().is_empty(), "and the others follow");
    assert!(!bench.engine.report().down);
}

#[test]
fn after_an_outage_a_row_that_is_not_what_was_expected_is_sent_again_at_once() {
    let mut bench = Bench::new(4, Duration::ZERO);
    for _ in 0..20 {
        bench.read();
        for id in bench.rows(&[("a", 2)]) {
            bench.answer(id, failed());
        }
        bench.engine.try_now();
    }
    bench.read();
    let ids = bench.rows(&[("a", 2)]);
    let theirs = Current { version: Some(9), item: Some(Default::default()), ..Current::default() };
    bench.answer(ids[0], Answer::Differs(Some(Box::new(theirs))));
    bench.settle();
    bench.read();
    assert_eq!(bench.rows(&[("a", 2)]).len(), 1);
}

#[test]
fn new_rows_of_a_journal_go_together_and_by_themselves_once_they_failed() {
    let mut bench = Bench::with_journals(2, Duration::ZERO, &["Reading"]);
    assert_eq!(bench.read().0, 6, "two requests of three");
    let mut rows: Vec<_> = (1..7).map(|n| row(&format!("k{n}"), n)).collect();
    rows[3].base = 1;
    bench.engine.pending(rows);
    let mut requests = Vec::new();
    while let Some(Action::Push(pushes)) = bench.poll() {
        requests.push(pushes.iter().map(|push| push.id).collect::<Vec<_>>());
    }
    assert_eq!(requests, [vec![1, 2, 3], vec![4]], "one that the cloud has needs its condition");
    for id in 1..4 {
        bench.answer(id, Answer::Alone("one is bad".to_owned()));
    }
    let Some(Action::Push(pushes)) = bench.poll() else { panic!("a request is free") };
    assert_eq!(pushes.len(), 2);
    for push in pushes {
        bench.answer(push.id, Answer::Stored);
    }
    bench.answer(4, Answer::Stored);
    assert_eq!(bench.settle().len(), 3);
    bench.read();
    bench.engine.pending((1..4).map(|n| row(&format!("k{n}"), n)).collect());
    let Some(Action::Push(pushes)) = bench.poll() else { panic!("a request is free") };
    assert_eq!(pushes.len(), 1, "one of them is bad");
}

#[test]
fn what_is_held_is_neither_read_nor_sent_but_settled() {
    let mut bench = Bench::new(1, Duration::ZERO);
    bench.read();
    let ids = bench.rows(&[("a", 1), ("b", 2)]);
    bench.engine.hold(true);
    bench.answer(ids[0], Answer::Stored);
    assert_eq!(bench.settle().len(), 1);
    assert!(bench.poll().is_none() && bench.engine.deadline().is_none());
    bench.engine.hold(false);
    bench.read();
}

#[test]
fn answers_wait_a_little_to_be_settled_together() {
    let mut bench = Bench::new(4, Duration::ZERO);
    bench.engine.gather = Duration::from_millis(20);
    assert_eq!(bench.read().0, 8, "as many are read ahead");
    let ids = bench.rows(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    bench.answer(ids[0], Answer::Stored);
    assert!(matches!(bench.poll(), None | Some(Action::Read { .. })));
    bench.now += Duration::from_millis(20);
    assert_eq!(bench.settle().len(), 1);
    bench.answer(ids[1], Answer::Stored);
    bench.answer(ids[2], Answer::Stored);
    assert_eq!(bench.settle().len(), 2, "half of what may be on the way");
    bench.answer(ids[3], Answer::Stored);
    assert_eq!(bench.settle().len(), 1, "nothing else is on the way");
}
