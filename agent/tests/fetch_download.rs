//! Files that are whole or not there, fetched in as many parts as it takes.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use fetch_support::{Directory, Peer, Server};
use ioto::fetch::{Body, Client, Error, Saved};

const WHOLE: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Sends the range that is asked for, of this version, and closes after `cut` bytes of it.
fn serve(peer: &mut Peer, version: usize, cut: usize) {
    let Some(request) = peer.request() else { return };
    let field = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let tag = format!("\"v{version}\"");
    let mut content = WHOLE.to_vec();
    content[0] = b'0' + version as u8;
    let first = field("Range: bytes=").and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
    let first = first.filter(|_| field("If-Range:") == Some(&tag));
    let (head, body) = match first {
        Some(first) if first >= content.len() => {
            let size = content.len();
            (format!("416 No\r\nContent-Range: bytes */{size}\r\nContent-Length: 0"), &[][..])
        }
        Some(first) => {
            let (size, left) = (content.len(), content.len() - first);
            let range = format!("bytes {first}-{}/{size}", size - 1);
            (format!("206 Part\r\nContent-Range: {range}\r\nContent-Length: {left}"), &content[first..])
        }
        None => (format!("200 OK\r\nContent-Length: {}", content.len()), &content[..]),
    };
    peer.send(format!("HTTP/1.1 {head}\r\nETag: {tag}\r\n\r\n").as_bytes());
    peer.send(&body[..body.len().min(cut)]);
}

fn download(server: &Server, path: &Path, retries: u8, resume: bool) -> Result<Saved, Error> {
    let request = Client::default().get(&format!("{}/f", server.url)).retries(retries);
    smol::block_on(request.download(path).resume(resume).run())
}

fn names(directory: &Directory) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(&directory.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_when_it_is_whole_however_often_it_broke_off() {
    let directory = Directory::new();
    let path = directory.0.join("file");
    let server = Server::new(|peer| serve(peer, 0, 15));
    let saved = download(&server, &path, 5, false).unwrap();
    assert_eq!(saved, Saved { length: WHOLE.len() as u64, resumed: 0 });
    assert_eq!(std::fs::read(&path).unwrap(), WHOLE);
    assert_eq!(names(&directory), ["file"]);
    assert_eq!(server.connections(), 3);
}

#[test]
fn another_run_goes_on_where_the_first_one_stopped() {
    let directory = Directory::new();
    let path = directory.0.join("file");
    let server = Server::new(|peer| serve(peer, 0, if peer.number == 0 { 20 } else { 100 }));
    let error = download(&server, &path, 0, true).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(names(&directory), ["file.part", "file.part.note"]);
    assert_eq!(download(&server, &path, 0, true).unwrap(), Saved { length: 36, resumed: 20 });
    assert_eq!(std::fs::read(&path).unwrap(), WHOLE);
    assert_eq!(names(&directory), ["file"]);
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_anew() {
    let directory = Directory::new();
    let path = directory.0.join("file");
    let server = Server::new(|peer| serve(peer, peer.number, if peer.number == 0 { 20 } else { 100 }));
    download(&server, &path, 0, true).unwrap_err();
    assert_eq!(download(&server, &path, 0, true).unwrap(), Saved { length: 36, resumed: 0 });
    assert_eq!(std::fs::read(&path).unwrap(), [b"1", &WHOLE[1..]].concat());
}

#[test]
fn a_part_that_was_whole_already_gets_its_name() {
    let directory = Directory::new();
    let path = directory.0.join("file");
    let server = Server::new(|peer| serve(peer, 0, 100));
    directory.write("file.part", WHOLE);
    directory.write("file.part.note", format!("{}/f\n\"v0\"\n", server.url));
    assert_eq!(download(&server, &path, 0, true).unwrap(), Saved { length: 36, resumed: 36 });
    assert_eq!(names(&directory), ["file"]);
}

#[test]
fn a_part_of_another_url_or_of_nobody_knows_what_is_not_gone_on_with() {
    for note in ["http://other/f\n\"v0\"\n", "", "\n\n"] {
        let directory = Directory::new();
        let path = directory.0.join("file");
        let server = Server::new(|peer| serve(peer, 0, 100));
        directory.write("file.part", "rubbish");
        directory.write("file.part.note", note);
        assert_eq!(download(&server, &path, 0, true).unwrap(), Saved { length: 36, resumed: 0 });
        assert_eq!(std::fs::read(&path).unwrap(), WHOLE);
    }
}

#[test]
fn a_server_that_sends_another_part_than_asked_is_not_believed() {
    let answers = [
        "206 Part\r\nContent-Range: bytes 6-35/36\r\nContent-Length: 30",
        "206 Part\r\nContent-Range: items 1\r\nContent-Length: 30",
        "206 Part\r\nContent-Length: 30",
        "416 No\r\nContent-Range: bytes */99\r\nContent-Length: 0",
        // The whole has another size than the part says.
        "206 Part\r\nContent-Range: bytes 5-98/99\r\nContent-Length: 30",
    ];
    for answer in answers {
        let asked = AtomicUsize::new(0);
        let server = Server::new(move |peer| {
            if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                return serve(peer, 0, 100);
            }
            peer.request();
            peer.send(format!("HTTP/1.1 {answer}\r\nETag: \"v0\"\r\n\r\n").as_bytes());
            peer.send(&WHOLE[6..]);
        });
        let directory = Directory::new();
        let path = directory.0.join("file");
        directory.write("file.part", &WHOLE[..5]);
        directory.write("file.part.note", format!("{}/f\n\"v0\"\n", server.url));
        let error = download(&server, &path, 0, true).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{answer}: {error}");
        assert!(names(&directory).is_empty(), "{answer}: {:?}", names(&directory));
        assert_eq!(download(&server, &path, 0, true).unwrap().length, 36);
    }
}

#[test]
fn what_is_no_content_or_too_much_leaves_nothing_behind() {
    let directory = Directory::new();
    let path = directory.0.join("file");
    let server = Server::answering("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone");
    let error = download(&server, &path, 0, true).unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    for head in ["Content-Length: 100\r\n", "Connection: close\r\n"] {
        let server = Server::closing(format!("HTTP/1.1 200 OK\r\n{head}\r\n{}", "x".repeat(100)));
        let request = Client::default().get(&server.url);
        let error = smol::block_on(request.download(&path).limit(99).run()).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 99 }), "{error}");
    }
    let bad = smol::block_on(Client::default().get("nonsense").download(&path).run()).unwrap_err();
    assert!(matches!(bad, Error::Url { .. }), "{bad}");
    let once = Client::default().post(&server.url).body(Body::reader(None, smol::io::empty()));
    assert!(matches!(smol::block_on(once.download(&path).run()), Err(Error::Body(_))));
    assert!(names(&directory).is_empty(), "{:?}", names(&directory));
    let server = Server::new(|peer| serve(peer, 0, 100));
    let error = download(&server, &directory.0.join("no/such/file"), 0, false).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}
