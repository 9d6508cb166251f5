//! What a build without users says of a configuration that has some: nothing that guards is passed over in silence.
#![cfg(all(feature = "web", not(feature = "users")))]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

fn check(web: &str) -> (Output, String) {
    let root = std::env::temp_dir().join(format!("ioto-no-users-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/web.json5"), web).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ioto"));
    command.env_clear().current_dir(&root).args(["--config", "etc", "--state", "state", "config", "check"]);
    let output = command.output().unwrap();
    fs::remove_dir_all(&root).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn what_needs_users_is_refused_once_with_the_reason() {
    const REASON: &str = "this build is without the Cargo feature `users`";
    for (web, key) in [
        ("{auth: {users: {jo: {password: 'x', role: 'a'}}, roles: {a: []}}}", "web.auth"),
        ("{auth: {login: '/login'}}", "web.auth"),
        ("{sessions: {store: 'database'}}", "web.sessions"),
        ("{routes: [{match: '/a/', role: 'user'}]}", "web.routes[0].role"),
    ] {
        let (output, text) = check(web);
        assert_eq!(output.status.code(), Some(2), "{web}: {text}");
        assert!(text.contains(&format!("web.json5:1: {key}: {REASON}")), "{web}: {text}");
        assert_eq!(text.lines().count(), 1, "{web}: {text}");
    }
}

#[test]
fn bounds_of_users_are_passed_over_with_a_warning() {
    let (output, text) = check("{limits: {sessions: 5}, timeouts: {login: '1 hour'}}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no effect") && text.contains("web.limits.sessions"), "{text}");
}
