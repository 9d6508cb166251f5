//! Many connections that ask for nothing, or for too much at once.

use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::{Agent, Client, eventually};

use crate::attackers::open;
use crate::others::{Target, alone, are_served_at, are_served_during, descriptors, memory, processor_time, server};

const HALF: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nX-Half: se";

#[test]
fn a_thousand_silent_connections_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        let mut agent = server(threads);
        agent.start();
        let before = memory(&agent);
        let silent = are_served_during(&agent, &format!("1,000 silent connections, threads: {threads}"), || {
            let silent = open(1000, agent.address(), b"");
            thread::sleep(Duration::from_secs(2));
            silent
        });
        let grown = memory(&agent).saturating_sub(before);
        assert!(grown < 16 * 1024, "1,000 silent connections take {grown} KiB");
        drop(silent);
    }
}

#[test]
fn five_hundred_half_sent_heads_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        let mut agent = server(threads);
        agent.start();
        are_served_during(&agent, &format!("500 half-sent heads, threads: {threads}"), || {
            let half = open(500, agent.address(), HALF);
            thread::sleep(Duration::from_secs(2));
            half
        });
    }
}

#[test]
fn programs_behind_the_server_are_reached_during_an_attack() {
    let _alone = alone();
    let (mut program, mut agent) = (Agent::new(), Agent::new());
    program.start();
    let route = format!("{{match: '/via/', handler: 'proxy', proxy: 'http://{}', trim: '/via'}}", program.address());
    agent.configure("via", &format!("{{web: {{routes: [{route}, {{match: ''}}]}}}}"));
    agent.start();
    let target = Target { address: agent.address(), path: "/via/", tls: None };
    are_served_at(&target, &agent, "500 half-sent heads and 500 silent connections, a program asked", || {
        let half = open(500, agent.address(), HALF);
        let silent = open(500, agent.address(), b"");
        thread::sleep(Duration::from_secs(2));
        (half, silent)
    });
}

#[test]
fn half_sent_heads_and_silence_that_fill_the_server_make_room() {
    let _alone = alone();
    for (name, bytes, threads) in [
        ("half-sent heads", HALF, 1),
        ("silent connections", b"", 1),
        ("half-sent heads", HALF, 2),
        ("silent connections", b"", 2),
    ] {
        let mut agent = server(threads);
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
            let answer = kept.get("/").expect("an answer to who was there before");
            assert_eq!(answer.status, 200);
            // While others wait, a connection may end with its response.
            if answer.header("connection") == Some("close") {
                kept = agent.client();
            }
        }
        println!("200 {name} where 50 have room, threads: {threads}: the slowest of 20 others took {longest:?}");
        // The first lose their places after half a second, those that waited behind them sooner and sooner.
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        drop(attackers);
    }
}

#[test]
fn with_64_descriptors_what_can_be_served_is_and_then_all_is_again() {
    let _alone = alone();
    let mut agent = Agent::new();
    agent.descriptors(64);
    agent.scratch().write("www/page.html", &"page ".repeat(20_000));
    agent.start();
    let (address, idle, spent) = (agent.address(), descriptors(&agent), processor_time(&agent));
    let began = Instant::now();
    // Each keeps its connection until all are answered.
    let clients: Vec<_> = (0..200)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address).expect("connected");
                let answer = client.get("/page.html");
                (answer.map_or((0, 0), |answer| (answer.status, answer.body.len())), client)
            })
        })
        .collect();
    let answers: Vec<((u16, usize), Client)> =
        clients.into_iter().map(|client| client.join().expect("a client")).collect();
    let count = |status: u16| answers.iter().filter(|((found, _), _)| *found == status).count();
    println!(
        "200 clients, 64 descriptors: {} served, {} got 503, {} nothing, in {:?}",
        count(200),
        count(503),
        count(0),
        began.elapsed()
    );
    assert_eq!(count(200) + count(503), 200, "each has an answer");
    assert!(answers.iter().all(|((status, length), _)| *status != 200 || *length == 100_000), "each page is whole");
    assert!(count(200) >= 50, "what can be served is served");

    // Those who wait for nothing cost nothing, however many they are.
    let silent = open(300, address, b"");
    let (began, burst) = (Instant::now(), processor_time(&agent));
    thread::sleep(Duration::from_secs(3));
    let (waited, held) = (began.elapsed(), processor_time(&agent) - burst);
    println!("the burst took {:?} of a processor; 300 silent ones took {held:?} in {waited:?}", burst - spent);
    assert!(burst - spent < Duration::from_secs(4), "the burst took {:?} of a processor", burst - spent);
    assert!(held < waited / 4, "it is busy with nothing: {held:?} in {waited:?}");
    drop(silent);

    drop(answers);
    eventually("the descriptors are free again", Duration::from_secs(10), || {
        (descriptors(&agent) <= idle + 2).then_some(())
    });
    for _ in 0..50 {
        let page = agent.client().get("/page.html").expect("it serves again");
        assert_eq!((page.status, page.body.len()), (200, 100_000));
    }
    assert_eq!(agent.client().get("/api/status").expect("it serves again").status, 200);
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
}
