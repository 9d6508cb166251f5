//! Programs that we did not write, behind the server: Python's http.server, and the package websockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use proxy_support::front;
use web_support::{Dir, curl, get, status};

/// The environment that `ci/test` makes.
fn python() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let environment = std::env::var_os("IOTO_TEST_VENV").map_or_else(|| repository.join(".venv"), PathBuf::from);
    let python = environment.join("bin/python");
    assert!(python.exists(), "no {}: run `ci/test test`, or set IOTO_TEST_VENV", python.display());
    python
}

struct App(Child, String);

impl App {
    /// A script that prints its port as its first line.
    fn start(script: &str) -> Self {
        let mut child = Command::new(python()).args(["-u", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, format!("http://127.0.0.1:{}", line.trim()))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FILES: &str = r#"
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = VERSION
    def log_message(self, *_): pass
    def do_POST(self):
        body = b''
        if self.headers.get('Transfer-Encoding') == 'chunked':
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0: break
        else:
            body = self.rfile.read(int(self.headers['Content-Length']))
        answer = f'{len(body)} {self.headers["X-Forwarded-For"]}'.encode()
        self.send_response(201)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
import os
os.chdir(DIRECTORY)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1])
server.serve_forever()
"#;

#[test]
fn pythons_http_server_serves_behind_ours() {
    let dir = Dir::new();
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at ^ (at >> 8)) as u8).collect();
    std::fs::write(dir.0.join("large.bin"), &large).unwrap();
    std::fs::write(dir.0.join("a b.txt"), "with a space").unwrap();
    for version in ["'HTTP/1.0'", "'HTTP/1.1'"] {
        let script = FILES.replace("VERSION", version).replace("DIRECTORY", &format!("{:?}", dir.0.to_str().unwrap()));
        let app = App::start(&script);
        let (server, _site) = front(&app.1, |_| {});
        let base = format!("http://{}", server.address());
        let out = dir.0.join("received");
        curl(&[
            "-o",
            out.to_str().unwrap(),
            &format!("{base}/large.bin"),
            &format!("{base}/large.bin"),
            "-o",
            "/dev/null",
        ]);
        assert!(std::fs::read(&out).unwrap() == large, "{version}");
        assert_eq!(curl(&[&format!("{base}/a%20b.txt")]), "with a space");
        assert_eq!(status(&get(&server, "/missing", "")), 404);
        let file = format!("@{}", dir.0.join("large.bin").display());
        let answer = curl(&["--data-binary", &file, "-H", "Expect: 100-continue", &base]);
        assert_eq!(answer, "3000000 127.0.0.1", "{version}");
        let answer = curl(&["--data-binary", &file, "-H", "Transfer-Encoding: chunked", &base]);
        assert_eq!(answer, "3000000 127.0.0.1", "{version}");
        let head = curl(&["-I", &format!("{base}/large.bin")]);
        assert!(head.contains("Content-Length: 3000000") && !head.contains("Python"), "{head}");
    }
}

const ECHO: &str = r"
import asyncio
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError
async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosedError:
        pass

async def main():
    async with serve(echo, '127.0.0.1', 0, subprotocols=['chat'], max_size=None) as server:
        print(server.sockets[0].getsockname()[1])
        await asyncio.Future()
asyncio.run(main())
";

const CLIENT: &str = r"
import asyncio, sys
from websockets.asyncio.client import connect
async def talk(number):
    async with connect(sys.argv[1], subprotocols=['chat'], max_size=None) as socket:
        assert socket.subprotocol == 'chat'
        for size in [0, 1, 125, 126, 65535, 65536, 1000000]:
            text = 'x' * size + str(number)
            await socket.send(text)
            assert await socket.recv() == text
        await socket.send(b'\x00\xff' * 1000)
        assert await socket.recv() == b'\x00\xff' * 1000
        await (await socket.ping())
        await socket.close(4321, 'bye')
        assert socket.close_code == 4321, socket.close_code
async def main():
    await asyncio.gather(*[talk(number) for number in range(8)])
    print('all well')
asyncio.run(main())
";

#[test]
fn websockets_of_python_talk_through_the_server() {
    let app = App::start(ECHO);
    let (server, _dir) = front(&app.1, |_| {});
    let url = format!("ws://{}/echo?x=y", server.address());
    let output = Command::new(python()).args(["-c", CLIENT, &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "all well", "{}", String::from_utf8_lossy(&output.stderr));
}
