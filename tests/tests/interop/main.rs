//! Clients that others wrote, against the example `webtest`, plain and over TLS: curl, Python's requests and websockets, and
//! Chromium. Each check has a name, and all that fail are told.

mod site;

use std::process::Command;

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
