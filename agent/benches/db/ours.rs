//! The agent's database.

use std::ops::Range;
use std::time::Duration;

use ioto::config;
use ioto::db::{Db, Query, Schema};
use smol::lock::Mutex;
use smol::{LocalExecutor, Timer};

use super::{Case, PAGE, Side, UPDATED, item, key, room, scattered};

pub(super) struct Ours {
    db: Db,
    items: u64,
}

impl Ours {
    pub(super) fn open(file: &str, up: bool) -> Self {
        let sync = if up { "up" } else { "none" };
        let fields = "id: {type: 'string'}, room: {type: 'string'}, sensor: {type: 'string'}, value: {type: 'number'}, \
                      unit: {type: 'string'}, note: {type: 'string'}";
        let schema = format!(
            "{{indexes: {{primary: {{hash: 'pk', sort: 'id'}}, rooms: {{hash: 'room'}}}}, \
             process: {{Reading: {{sync: '{sync}'}}}}, models: {{Reading: {{{fields}}}}}}}"
        );
        let options = config::Database { path: file.into(), ..Default::default() };
        let db = Db::open(&options, Schema::parse(&schema, "schema").expect("a schema")).expect("a database");
        let items = smol::block_on(db.count("Reading")).expect("a number");
        Self { db, items }
    }
}

impl Side for Ours {
    fn run(&mut self, case: Case, numbers: Range<u64>, callers: usize, pause: Duration) {
        let items = self.items.max(1);
        if case == Case::Create {
            self.items += numbers.end - numbers.start;
        }
        let rest = Mutex::new(numbers);
        let (db, rest) = (&self.db, &rest);
        let caller = || async move {
            loop {
                let Some(number) = rest.lock().await.next() else { break };
                operate(db, case, number, items).await;
                if !pause.is_zero() {
                    Timer::after(pause).await;
                }
            }
        };
        if callers == 1 {
            return smol::block_on(caller());
        }
        let executor = LocalExecutor::new();
        let tasks: Vec<_> = (0..callers).map(|_| executor.spawn(caller())).collect();
        smol::block_on(executor.run(async {
            for task in tasks {
                task.await;
            }
        }));
    }

    fn close(self: Box<Self>) {
        smol::block_on(self.db.close());
    }
}

async fn operate(db: &Db, case: Case, number: u64, items: u64) {
    match case {
        Case::Create => {
            let key = key(number);
            db.create("Reading", item(&key, number)).await.expect("an item");
        }
        Case::Update => {
            let key = key(number % UPDATED);
            let mut item = item(&key, number);
            item.shift_remove("id");
            db.update("Reading", &key, item).await.expect("an item");
        }
        Case::Get => {
            let found = db.get("Reading", &scattered(number, items)).await.expect("an answer");
            assert!(found.is_some(), "the item is there");
        }
        Case::Find => {
            let query = Query::new().filter("room", room(number)).limit(PAGE);
            let page = db.find("Reading", query).await.expect("an answer");
            assert!(!page.items.is_empty(), "items are there");
        }
    }
}
