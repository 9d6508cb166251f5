//! Clients that others wrote, against the example `webtest`, plain and over TLS: curl, Python's requests and websockets, and
//! Chromium. Each check has a name, and all that fail are told.

mod site;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use ioto_tests::{Scratch, eventually, python, repository};
use serde_json::json;
use site::Site;

/// The client must be there: what is not tried is not known to work.
fn need(program: &str, package: &str) {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(found, "no {program}: run `ci/test test`, or install what Debian calls {package}");
}

#[test]
fn curl_gets_what_it_asks_for() {
    need("curl", "curl");
    Site::new().run("with_curl.py");
}

#[test]
fn requests_gets_what_it_asks_for() {
    Site::new().run("with_requests.py");
}

#[test]
fn websockets_talks_with_the_echo() {
    Site::new().run("with_websockets.py");
}

#[test]
fn pages_in_chromium_can_use_everything() {
    need("chromium", "chromium");
    Site::new().run("with_chromium.py");
}

#[test]
fn the_page_of_the_device_works_in_chromium_with_the_fields_for_careful_browsers() {
    need("chromium", "chromium");
    Site::of_device().run("device_page.py");
}

/// The processes that have the text in their command line or in their environment, which Chromium's helpers inherit.
fn processes(text: &str) -> Vec<String> {
    let of = |entry: fs::DirEntry| {
        let all = ["cmdline", "environ"].map(|name| fs::read(entry.path().join(name)).unwrap_or_default()).concat();
        let all = String::from_utf8_lossy(&all).replace('\0', " ");
        all.contains(text).then(|| format!("{}: {all}", entry.path().display()))
    };
    fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok).filter_map(of).collect()
}

#[test]
fn no_process_of_a_browser_outlives_who_started_it_whether_that_fails_or_is_killed() {
    need("chromium", "chromium");
    for how in ["killed", "failed"] {
        let scratch = Scratch::new();
        let profile = scratch.path().join("chromium").display().to_string();
        let mut child = python()
            .arg("-B")
            .arg(repository().join("tests/tests/interop/with_death.py"))
            .arg(json!({"scratch": scratch.path(), "how": how}).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start python");
        let mut said = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut said).expect("hear python");
        if how == "killed" {
            let all = processes(&profile);
            assert!(all.len() > 4, "the browser has more processes than its guard and itself: {all:#?}");
            child.kill().expect("kill python");
        }
        let status = child.wait().expect("wait for python");
        assert!(said == "up\n" && !status.success(), "{how}: {said}");
        eventually("all processes of the browser end", Duration::from_secs(10), || {
            processes(&profile).is_empty().then_some(())
        });
    }
}
