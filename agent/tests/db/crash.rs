//! A process that writes is killed; what it was told is safe is there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ioto::db::Query;
use serde_json::json;
use smol::{LocalExecutor, block_on};

use super::{Scratch, item, open, seed};

const KILLS: usize = 25;
const WRITERS: usize = 8;
const CHILD: &str = "IOTO_TEST_DB";

/// Not a test of its own: the process that is killed. Prints `key value` or `key -` after each acknowledged write.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let db = open(&PathBuf::from(path)).unwrap();
    let executor = LocalExecutor::new();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = db.clone();
            executor.spawn(async move {
                let mut rng = fastrand::Rng::new();
                for _ in 0..u32::MAX {
                    // A key belongs to one writer, so the acknowledgements of a key are in the order of its writes.
                    let key = format!("{writer}.{}", rng.u8(..20));
                    let value = rng.u32(..);
                    let fields = item(json!({"id": key, "n": value}));
                    let done = match rng.u8(..4) {
                        0 => db.remove("Twin", &key).await.map(|_| "-".to_owned()),
                        _ => match db.update("Twin", &key, fields.clone()).await {
                            Err(ioto::db::Error::Missing { .. }) => {
                                db.create("Twin", fields).await.map(|_| value.to_string())
                            }
                            other => other.map(|_| value.to_string()),
                        },
                    };
                    let line = format!("{key} {}\n", done.unwrap());
                    std::io::stderr().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    block_on(executor.run(async move {
        for writer in writers {
            writer.await;
        }
    }));
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_rows_and_change_log_agree() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let scratch = Scratch::new();
    let (mut acknowledged, mut total) = (BTreeMap::<String, String>::new(), 0);
    for kill in 0..KILLS {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, scratch.file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap());
        let reader = std::thread::spawn(move || lines.lines().map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(rng.u64(20..300)));
        process.kill().unwrap();
        process.wait().unwrap();
        let said = reader.join().unwrap();
        for line in &said {
            let Some((key, value)) = line.split_once(' ') else { continue };
            assert!(value == "-" || value.parse::<u32>().is_ok(), "the child failed: {said:?}");
            acknowledged.insert(key.into(), value.into());
            total += 1;
        }
        verify(&scratch, &mut acknowledged, kill);
    }
    println!("{total} acknowledged writes");
    assert!(total > KILLS, "the child wrote next to nothing");
}

fn verify(scratch: &Scratch, acknowledged: &mut BTreeMap<String, String>, kill: usize) {
    let db = scratch.open();
    let page = block_on(db.find("Twin", Query::new().limit(1000))).unwrap();
    let text = |item: &ioto::db::Item| (item["id"].as_str().unwrap().to_owned(), item["n"].to_string());
    let rows: BTreeMap<String, String> = page.items.iter().map(text).collect();
    // Each writer may have had one write on the way that was made safe but not acknowledged any more.
    let mut unsure = [0; WRITERS];
    let keys: BTreeSet<&String> = rows.keys().chain(acknowledged.keys()).collect();
    for key in keys {
        let expected = acknowledged.get(key).map_or("-", String::as_str);
        if rows.get(key).map_or("-", String::as_str) != expected {
            unsure[key.split_once('.').unwrap().0.parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(unsure.iter().all(|&count| count <= 1), "kill {kill}: writes were lost: {unsure:?}");
    // Nothing is ever settled here, so a row that was ever written is pending, with what is in the table.
    let pending = block_on(db.pending(1000, &HashSet::new())).unwrap();
    for change in &pending {
        assert_eq!(change.item.as_ref().map(|item| text(item).1), rows.get(&change.key).cloned(), "kill {kill}");
    }
    let recorded: BTreeSet<&String> = pending.iter().map(|change| &change.key).collect();
    assert!(rows.keys().all(|key| recorded.contains(key)), "kill {kill}: a row changed that is not recorded");
    block_on(db.close());
    for key in recorded {
        acknowledged.insert(key.clone(), rows.get(key).cloned().unwrap_or_else(|| "-".into()));
    }
}
