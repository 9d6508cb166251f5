//! Many connections that ask for nothing, or for too much at once.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, eventually};

use crate::attackers::{connect_from, open, rest, status};
use crate::others::{are_served_during, descriptors, memory};

const HALF: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nX-Half: se";

#[test]
fn a_thousand_silent_connections_disturb_nobody() {
    let mut agent = Agent::new();
    agent.start();
    let before = memory(&agent);
    let silent = are_served_during(&agent, "1,000 silent connections", || {
        let silent = open(1000, agent.address(), b"");
        thread::sleep(Duration::from_secs(2));
        silent
    });
    let grown = memory(&agent).saturating_sub(before);
    assert!(grown < 16 * 1024, "1,000 silent connections take {grown} KiB");
    drop(silent);
}

#[test]
fn five_hundred_half_sent_heads_disturb_nobody() {
    let mut agent = Agent::new();
    agent.start();
    are_served_during(&agent, "500 half-sent heads", || {
        let half = open(500, agent.address(), HALF);
        thread::sleep(Duration::from_secs(2));
        half
    });
}

#[test]
fn half_sent_heads_and_silence_that_fill_the_server_make_room() {
    for (name, bytes) in [("half-sent heads", HALF), ("silent connections", b"")] {
        let mut agent = Agent::new();
        // They would all be there for a minute.
        agent.configure("few", "{web: {limits: {connections: 50}, timeouts: {parse: '1 min', idle: '1 min'}}}");
        agent.start();
        let mut kept = agent.client();
        assert_eq!(kept.get("/").expect("an answer").status, 200);
        let attackers = open(200, agent.address(), bytes);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(agent.client().get("/").expect("an answer during the attack").status, 200);
            longest = longest.max(began.elapsed());
            assert_eq!(kept.get("/").expect("an answer to who was there before").status, 200);
        }
        println!("200 {name} where 50 have room: the slowest of 20 others took {longest:?}");
        // Each place becomes free in half a second.
        assert!(longest < Duration::from_secs(8), "{longest:?}");
        drop(attackers);
    }
}

#[test]
fn with_64_descriptors_what_can_be_served_is_and_then_all_is_again() {
    let mut agent = Agent::new();
    agent.descriptors(64);
    agent.scratch().write("www/page.html", &"page ".repeat(20_000));
    agent.start();
    let (address, idle) = (agent.address(), descriptors(&agent));
    let began = Instant::now();
    let answers: Vec<(u16, bool)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|number| {
                scope.spawn(move || {
                    let mut stream = connect_from(number / 20, address).expect("connected");
                    let _ = stream.write_all(b"GET /page.html HTTP/1.1\r\nHost: localhost\r\n\r\n");
                    let answer = rest(&stream);
                    (status(&answer), answer.ends_with("page "))
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let count = |status: u16| answers.iter().filter(|(found, _)| *found == status).count();
    println!(
        "200 clients, 64 descriptors: {} served, {} got 503, {} nothing, in {:?}",
        count(200),
        count(503),
        count(0),
        began.elapsed()
    );
    assert_eq!(count(200) + count(503), 200, "each has an answer");
    assert!(answers.iter().all(|(status, is_whole)| *status != 200 || *is_whole), "each page is whole");
    assert!(count(200) >= 50, "what can be served is served");

    eventually("the descriptors are free again", Duration::from_secs(10), || {
        (descriptors(&agent) <= idle + 2).then_some(())
    });
    for _ in 0..50 {
        let page = agent.client().get("/page.html").expect("it serves again");
        assert_eq!((page.status, page.body.len()), (200, 100_000));
    }
    assert_eq!(agent.client().get("/api/status").expect("it serves again").status, 200);
}
