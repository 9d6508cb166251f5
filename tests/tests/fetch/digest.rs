//! `--digest` against lighttpd, as curl does it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ioto_tests::{Scratch, eventually, free_port};

use crate::server::ioto;

struct Lighttpd {
    child: Child,
    port: u16,
    scratch: Scratch,
}

impl Lighttpd {
    fn start() -> Self {
        let (scratch, port) = (Scratch::new(), free_port());
        let directory = scratch.path().display();
        let places = ["md5", "sha"];
        for place in places {
            scratch.write(&format!("www/{place}/x.txt"), place);
        }
        let users = scratch.write("users", "jo:open sesame\n");
        let rule = |place: &str, algorithm: &str| {
            format!(
                "\"/{place}/\" => (\"method\" => \"digest\", \"realm\" => \"a realm\", \"require\" => \"valid-user\", \
                 \"algorithm\" => \"{algorithm}\"),"
            )
        };
        let config = format!(
            "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{directory}/www\"\n\
             server.modules = (\"mod_auth\", \"mod_authn_file\")\nauth.backend = \"plain\"\n\
             auth.backend.plain.userfile = \"{}\"\nauth.require = ({} {})\n",
            users.display(),
            rule("md5", "MD5"),
            rule("sha", "SHA-256"),
        );
        let file = scratch.write("lighttpd.conf", &config);
        let mut command = Command::new("/usr/sbin/lighttpd");
        let child = command.arg("-D").arg("-f").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("start lighttpd, of Debian's package of that name");
        eventually("lighttpd listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port, scratch }
    }
}

impl Drop for Lighttpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_password_is_proved_and_never_sent() {
    let server = Lighttpd::start();
    let directory = server.scratch.path();
    for place in ["md5", "sha"] {
        let url = format!("http://127.0.0.1:{}/{place}/x.txt", server.port);
        for (user, status) in [("jo:open sesame", 200), ("jo:wrong", 401), ("nobody:open sesame", 401)] {
            let arguments = ["-s", "--digest", "-u", user, "-w", "%{http_code}", "-o", "out", &url];
            let theirs = Command::new("curl").arg("-q").args(arguments).current_dir(directory).output().expect("curl");
            let ours = ioto(directory, &arguments);
            assert_eq!((&ours.stdout, ours.status.code()), (&theirs.stdout, theirs.status.code()), "{user} {url}");
            assert_eq!(String::from_utf8_lossy(&ours.stdout), status.to_string(), "{user} {url}");
        }
        // The same nonce serves for all, with a count; each URL is in the proof.
        let query = format!("{url}?a=b,c");
        let output = ioto(directory, &["-f", "--digest", "-u", "jo:open sesame", "--repeat", "3", &url, &query]);
        assert_eq!(output.stdout, place.repeat(6).as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = ioto(directory, &["-v", "--digest", "-u", "jo:open sesame", &url]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("sesame"));
    }
    assert!(fs::exists(directory.join("out")).expect("look"));
}
