//! Servers for the tests of the client: small, written by hand, and wrong on purpose where a test wants it.

#![allow(dead_code, clippy::unwrap_used)]

pub mod gate;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A server that runs a script on each connection, in a thread of its own.
pub struct Server {
    pub url: String,
    pub connections: Arc<AtomicUsize>,
}

/// One connection of a server.
pub struct Peer {
    /// Counted from 0.
    pub number: usize,
    stream: BufReader<TcpStream>,
}

impl Server {
    pub fn new(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, script) = (connections.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || script(&mut Peer { number, stream: BufReader::new(stream) }));
            }
        });
        Self { url, connections }
    }

    /// Answers every request on every connection with the same bytes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |peer| {
            while peer.request().is_some() {
                peer.send(&bytes);
            }
        })
    }

    /// Answers one request on each connection with these bytes and closes.
    pub fn closing(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |peer| {
            if peer.request().is_some() {
                peer.send(&bytes);
            }
        })
    }

    /// Answers every request with its own text.
    pub fn mirror() -> Self {
        Self::new(|peer| {
            while let Some(request) = peer.request() {
                peer.answer(200, "", &request);
            }
        })
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Peer {
    /// The next line without its end; nothing when the client closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches("\r\n").to_owned()),
        }
    }

    /// The lines of the next head.
    pub fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            match self.line()?.as_str() {
                "" => return Some(head),
                line => head.push_str(&format!("{line}\n")),
            }
        }
    }

    /// The next request: its head, an empty line, its body. Chunks are decoded, each ends with `|`.
    pub fn request(&mut self) -> Option<String> {
        let mut request = self.head()? + "\n";
        let field = |name: &str| {
            let line = request.lines().find(|line| line.to_lowercase().starts_with(name));
            line.map(|line| line[name.len()..].trim().to_owned())
        };
        if let Some(length) = field("content-length:") {
            request.push_str(&self.exactly(length.parse().unwrap()));
        } else if field("transfer-encoding:").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).unwrap();
                let chunk = self.exactly(size);
                assert_eq!(self.line()?, "");
                if size == 0 {
                    break;
                }
                request.push_str(&chunk);
                request.push('|');
            }
        }
        Some(request)
    }

    pub fn exactly(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Sends bytes; that the client has gone is its right.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// The connection itself, when nothing was read of it yet.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    pub fn answer(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}").as_bytes());
    }
}

pub fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A directory of its own, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-fetch-{}-{:x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Python's http.server, which serves the files of a directory and gives back what is posted.
pub struct Python {
    child: Child,
    pub port: u16,
}

impl Python {
    pub fn serve(directory: &Directory, tls: bool) -> Self {
        const SCRIPT: &str = "
import functools, http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200)
        if self.path != '/open-ended':
            self.send_header('Content-Length', len(body))
        self.end_headers()
        self.wfile.write(body)
handler = functools.partial(Handler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
if sys.argv[2] == 'tls':
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1] + '/server.crt', sys.argv[1] + '/server.key')
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(&directory.0)
            .arg(if tls { "tls" } else { "plain" })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("python3 tells its port") }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A foreign web server that runs in the foreground with a configuration of its own.
pub struct Foreign {
    child: Child,
    pub port: u16,
    directory: Directory,
}

impl Foreign {
    /// nginx with these lines in its only `server` block; its files are in [`root`](Self::root). Nothing when it is not installed.
    pub fn nginx(server: &str) -> Option<Self> {
        Self::start("nginx", |directory, port| {
            let config = format!(
                "daemon off; worker_processes 1; pid {directory}/pid; error_log stderr;\n\
                 events {{}}\n\
                 http {{ access_log off; types {{ text/plain txt; }}\n\
                 client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;\n\
                 uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n\
                 server {{ listen 127.0.0.1:{port}; root {directory}/www;\n{server}\n}} }}\n"
            );
            (config, vec!["-c"])
        })
    }

    /// lighttpd with these lines; its files are in [`root`](Self::root). Nothing when it is not installed.
    pub fn lighttpd(lines: &str) -> Option<Self> {
        Self::start("lighttpd", |directory, port| {
            let config = format!(
                "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{directory}/www\"\n{}\n",
                lines.replace("DIRECTORY", directory)
            );
            (config, vec!["-D", "-f"])
        })
    }

    fn start(program: &str, config: impl FnOnce(&str, u16) -> (String, Vec<&'static str>)) -> Option<Self> {
        let path = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|place| PathBuf::from(place).join(program));
        let Some(path) = path.iter().find(|path| path.exists()) else {
            eprintln!("{program} is not installed: this test is left out");
            return None;
        };
        let directory = Directory::new();
        std::fs::create_dir(directory.0.join("www")).unwrap();
        // Its workers may run as another user.
        use std::os::unix::fs::PermissionsExt;
        for place in [directory.0.clone(), directory.0.join("www")] {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (text, arguments) = config(directory.0.to_str().unwrap(), port);
        let file = directory.write("server.conf", text);
        let child =
            Command::new(path).args(arguments).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, directory };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            pause(50);
        }
        panic!("{program} does not listen");
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A file that the server serves.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.directory.write(&format!("www/{name}"), content)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // nginx has workers: they end with their master when it is asked to.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
