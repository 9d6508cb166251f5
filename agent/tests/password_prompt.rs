//! `ioto password` asks on a terminal: what is typed is hidden, and shown again however the program ends.
#![cfg(feature = "users")]
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Runs the program on a pseudo-terminal, sends keys or a signal at its prompt, and prints its end and the terminal's echo.
const SCRIPT: &str = r#"
import os, pty, select, signal, sys, termios, time
program, action = sys.argv[1:3]
child, terminal = pty.fork()
if child == 0:
    os.execv(program, [program, "password", "jo"])
def echo():
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
def until(text):
    seen, end = b"", time.time() + 20
    while text not in seen and time.time() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    assert text in seen, seen
    return seen
until(b"Password:")
assert not echo(), "the password would be shown"
if action == "type":
    os.write(terminal, b"secret words\n")
    seen = until(b"Again:")
    os.write(terminal, b"secret words\n")
    seen += until(b"argon2id")
    assert b"secret" not in seen, seen
elif action == "suspend":
    os.write(terminal, b"\x1a")
    time.sleep(0.3)
    os.write(terminal, b"\x03")
elif action == "key":
    os.write(terminal, b"sec\x03")
else:
    os.kill(child, getattr(signal, action))
end = time.time() + 20
while time.time() < end:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        break
    time.sleep(0.02)
assert pid, "it goes on"
assert echo(), "the terminal shows nothing any more"
print(os.waitstatus_to_exitcode(status))
"#;

fn run(action: &str) -> String {
    let output = Command::new("python3")
        .args(["-c", SCRIPT, env!("CARGO_BIN_EXE_ioto"), action])
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn what_is_typed_is_hidden_and_the_terminal_is_as_before_at_the_end() {
    assert_eq!(run("type"), "0");
}

#[test]
fn who_interrupts_gets_back_a_terminal_that_shows_what_is_typed() {
    for (action, expected) in
        [("key", "130"), ("suspend", "130"), ("SIGINT", "130"), ("SIGTERM", "143"), ("SIGHUP", "129")]
    {
        assert_eq!(run(action), expected, "{action}");
    }
}
