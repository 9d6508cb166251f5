//! Failed logins from many addresses.

use std::io::{Read, Write};
use std::thread;
use std::time::Instant;

use crate::attackers::connect_from;
use crate::others::{alone, are_served_during, memory, peak, server};

/// Passwords of argon2id: to verify one is dear, whether it is right or wrong.
const USERS: &str = "{web: {
    auth: {
        requireTlsForBasic: false,
        users: {admin: {
            password: '$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8',
            role: 'admin',
        }},
        roles: {admin: []},
    },
    limits: {requests: 'unlimited'},
    routes: [{match: '/admin/', role: 'admin'}, {match: ''}],
}}";

/// Attempts in all, and the addresses that they come from.
const ATTEMPTS: usize = 10_000;
const ADDRESSES: usize = 50;
/// Attackers that wait for an answer at a time.
const THREADS: usize = 10;

#[test]
fn ten_thousand_failed_logins_disturb_nobody() {
    let _alone = alone();
    for threads in [1, 2] {
        guess_at(threads);
    }
}

fn guess_at(threads: usize) {
    let mut agent = server(threads);
    agent.configure("users", USERS);
    agent.scratch().write("www/admin/page.html", "for admins");
    agent.start();
    let (address, before) = (agent.address(), memory(&agent));
    are_served_during(&agent, &format!("10,000 failed logins from 50 addresses, threads: {threads}"), || {
        let began = Instant::now();
        let statuses: Vec<u16> = thread::scope(|scope| {
            let attackers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || attack(thread, address))).collect();
            attackers.into_iter().flat_map(|attacker| attacker.join().expect("an attacker")).collect()
        });
        let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
        println!("{} got 401, {} got 429, {} got 503, in {:?}", count(401), count(429), count(503), began.elapsed());
        assert_eq!(count(401) + count(429) + count(503), ATTEMPTS, "each was refused");
    });
    // One hash takes 19 MiB, one is made at a time, and nothing of that is kept.
    let (left, most) = (memory(&agent).saturating_sub(before), peak(&agent).saturating_sub(before));
    println!("the memory grew by {most} KiB at most, and {left} KiB are left");
    assert!(most < 40 * 1024, "it grew by {most} KiB");
}

/// A share of the attempts, from a share of the addresses, each for another user or password.
fn attack(thread: usize, address: std::net::SocketAddr) -> Vec<u16> {
    let mut statuses = Vec::new();
    for source in (0..ADDRESSES).filter(|source| source % THREADS == thread) {
        let mut stream = connect_from(source, address).expect("connected");
        for number in 0..ATTEMPTS / ADDRESSES {
            let name = if number % 2 == 0 { "admin" } else { "nobody" };
            let credentials = base64(format!("{name}:wrong {source} {number}").as_bytes());
            let request = format!(
                "GET /admin/page.html HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n"
            );
            let (status, closes) = match stream.write_all(request.as_bytes()) {
                Ok(()) => answer(&mut stream),
                Err(_) => (0, true),
            };
            statuses.push(status);
            if closes {
                stream = connect_from(source, address).expect("connected");
            }
        }
    }
    statuses
}

/// The status of an answer, and whether the connection closes after it.
fn answer(stream: &mut impl Read) -> (u16, bool) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read == 1) {
            return (0, true);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|text| text.split('\r').next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let is_whole = stream.read_exact(&mut body).is_ok();
    (crate::attackers::status(&head), !is_whole || head.contains("connection: close"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let used = digit <= chunk.len();
            let index = (number >> (18 - 6 * digit)) & 63;
            text.push(if used { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}
