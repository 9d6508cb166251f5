//! Name servers that leave the question for one family unanswered, in a network of the test's own.

use std::process::Command;

use ioto_tests::{Scratch, program, repository};

/// What `COMMAND http://late.example:8080/` gets, and after how many seconds; nothing where there are no namespaces.
fn fetch(answered: &str, command: &[&str]) -> Option<(String, f64)> {
    let scratch = Scratch::new();
    let namespaces = ["--net", "--mount"];
    let may = Command::new("unshare").args(namespaces).arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("this test needs namespaces and so root: it is left out");
        return None;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("python3")
        .arg(repository().join("tests/tests/fetch/names.py"))
        .arg(scratch.path())
        .arg(answered)
        .args(command)
        .arg("http://late.example:8080/")
        .output()
        .expect("start unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{command:?} {answered}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [status, seen, seconds] = words[..] else { panic!("it says too little: {output:?}") };
    assert_eq!(status, "0");
    Some((seen.to_owned(), seconds.parse().expect("seconds")))
}

#[test]
fn a_question_that_is_not_answered_does_not_keep_the_other_waiting() {
    let program = program("ioto").to_string_lossy().into_owned();
    for (answered, address) in [("a", "127.0.0.1"), ("aaaa", "::1")] {
        let Some((seen, seconds)) = fetch(answered, &[&program, "fetch", "-s", "-S"]) else { return };
        assert_eq!(seen, address);
        // The C library gives the other question 10 s.
        assert!(seconds < 4.0, "{answered}: {seconds} s");
    }
}
