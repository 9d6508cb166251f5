//! The client against nginx, lighttpd and a server of HTTP/1.0.

#![cfg(feature = "fetch")]
#![allow(clippy::unwrap_used)]

mod fetch_support;

use fetch_support::{Directory, Foreign, Server, pause};
use ioto::fetch::{Body, Client, ContentRange, Saved};
use smol::io::Cursor;

const LIMIT: usize = 8 << 20;

fn text(client: &Client, url: &str) -> String {
    smol::block_on(async { client.get(url).send().await.unwrap().text(LIMIT).await.unwrap() })
}

/// Three megabytes that are not the same everywhere.
fn large() -> String {
    (0..300_000).map(|n| format!("{n:09}\n")).collect()
}

/// What every server of files can do.
fn files(server: &Foreign) {
    let large = large();
    server.write("large.txt", &large);
    server.write("small.txt", "small");
    let client = Client::default();
    for _ in 0..3 {
        assert_eq!(text(&client, &server.url("/small.txt")), "small");
        assert!(text(&client, &server.url("/large.txt")) == large);
    }
    smol::block_on(async {
        let head = client.head(&server.url("/large.txt")).send().await.unwrap();
        assert_eq!((head.status(), head.header("content-length")), (200, Some("3000000")));
        let part = client.get(&server.url("/large.txt")).range(10, Some(29)).send().await.unwrap();
        let expected = ContentRange { first: 10, last: 29, size: Some(3_000_000) };
        assert_eq!((part.status(), part.range()), (206, Some(expected)));
        assert_eq!(part.text(LIMIT).await.unwrap(), "000000001\n000000002\n");
        assert_eq!(client.get(&server.url("/none")).send().await.unwrap().status(), 404);
    });
    resume(server, &client, &large);
}

fn resume(server: &Foreign, client: &Client, whole: &str) {
    let (directory, url) = (Directory::new(), server.url("/large.txt"));
    let path = directory.0.join("large");
    let tag = smol::block_on(client.head(&url).send()).unwrap().header("etag").unwrap().to_owned();
    let begin = |tag: &str| {
        directory.write("large.part", &whole[..1_234_567]);
        directory.write("large.part.note", format!("{url}\n{tag}\n"));
        smol::block_on(client.get(&url).download(&path).resume(true).run()).unwrap()
    };
    assert_eq!(begin(&tag), Saved { length: 3_000_000, resumed: 1_234_567 });
    assert!(std::fs::read_to_string(&path).unwrap() == whole);
    assert_eq!(begin("\"another\""), Saved { length: 3_000_000, resumed: 0 });
    assert!(std::fs::read_to_string(&path).unwrap() == whole);
}

#[test]
fn nginx_serves_files_whole_in_parts_and_compressed() {
    let Some(server) = Foreign::nginx("gzip on; gzip_types text/plain; gzip_min_length 1; gzip_proxied any;") else {
        return;
    };
    files(&server);
    smol::block_on(async {
        let request = Client::default().get(&server.url("/large.txt")).compressed(true);
        let response = request.send().await.unwrap();
        assert_eq!(response.header("content-encoding"), Some("gzip"));
        assert!(response.text(LIMIT).await.unwrap() == large());
    });
}

#[test]
fn nginx_takes_uploads_of_known_and_of_unknown_length() {
    let Some(server) = Foreign::nginx("dav_methods PUT DELETE; client_max_body_size 4m;") else { return };
    let (client, large) = (Client::default(), large());
    let put =
        |name: &str, body: Body| smol::block_on(client.put(&server.url(name)).body(body).send()).unwrap().status();
    assert_eq!(put("/a.txt", large.as_str().into()), 201);
    assert_eq!(put("/b.txt", Body::reader(None, Cursor::new(large.clone()))), 201);
    for name in ["/a.txt", "/b.txt"] {
        assert!(text(&client, &server.url(name)) == large, "{name}");
    }
    // It refuses before it has the body, and closes.
    assert_eq!(put("/c.txt", vec![b'x'; 5 << 20].into()), 413);
    let endless = Body::reader(None, smol::io::repeat(b'x'));
    assert_eq!(put("/c.txt", endless), 413);
    assert_eq!(smol::block_on(client.delete(&server.url("/a.txt")).send()).unwrap().status(), 204);
}

#[test]
fn connections_that_nginx_closes_are_replaced_unnoticed() {
    let Some(server) = Foreign::nginx("keepalive_timeout 1s; keepalive_requests 3;") else { return };
    server.write("small.txt", "small");
    let client = Client::default();
    for round in 0..2 {
        for _ in 0..7 {
            assert_eq!(text(&client, &server.url("/small.txt")), "small", "{round}");
        }
        pause(1300);
    }
    let post = || smol::block_on(client.post(&server.url("/small.txt")).body("x").send()).unwrap().status();
    assert_eq!(post(), 405);
    pause(1300);
    assert_eq!(post(), 405, "a POST is not lost on a connection that was closed while it was idle");
}

#[test]
fn lighttpd_serves_files_and_asks_for_digests() {
    let config = "
mimetype.assign = (\".txt\" => \"text/plain\")
server.modules = (\"mod_auth\", \"mod_authn_file\")
auth.backend = \"plain\"
auth.backend.plain.userfile = \"DIRECTORY/www/users\"
auth.require = (
  \"/md5/\" => (\"method\" => \"digest\", \"realm\" => \"a realm\", \"require\" => \"valid-user\"),
  \"/sha/\" => (\"method\" => \"digest\", \"realm\" => \"a realm\", \"require\" => \"valid-user\", \"algorithm\" => \"SHA-256\"),
  \"/basic/\" => (\"method\" => \"basic\", \"realm\" => \"a realm\", \"require\" => \"valid-user\"),
)
";
    let Some(server) = Foreign::lighttpd(config) else { return };
    files(&server);
    server.write("users", "jo:open sesame\n");
    for place in ["md5", "sha", "basic"] {
        std::fs::create_dir(server.write("small.txt", "small").with_file_name(place)).unwrap();
        server.write(&format!("{place}/x.txt"), place);
    }
    let client = Client::default();
    let status = |url: &str, password: &str| {
        smol::block_on(client.get(&server.url(url)).digest("jo", password).send()).unwrap().status()
    };
    for place in ["md5", "sha"] {
        let url = format!("/{place}/x.txt");
        assert_eq!(status(&url, "wrong"), 401);
        for _ in 0..3 {
            assert_eq!(status(&url, "open sesame"), 200);
            let response = client.get(&server.url(&format!("{url}?a=b"))).digest("jo", "open sesame");
            assert_eq!(smol::block_on(response.send()).unwrap().status(), 200);
        }
    }
    let basic =
        |password| smol::block_on(client.get(&server.url("/basic/x.txt")).basic("jo", password).send()).unwrap();
    assert_eq!((basic("open sesame").status(), basic("wrong").status()), (200, 401));
}

#[test]
fn a_server_of_http_1_0_closes_after_each_answer_and_that_is_its_end() {
    let server = Server::new(|peer| {
        let request = peer.request().unwrap();
        peer.send(format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{request}").as_bytes());
    });
    let client = Client::default();
    for _ in 0..3 {
        assert!(text(&client, &server.url).starts_with("GET / HTTP/1.1\n"));
    }
    assert_eq!(server.connections(), 3);
    let kept = Server::answering("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi");
    (0..3).for_each(|_| assert_eq!(text(&client, &kept.url), "hi"));
    assert_eq!(kept.connections(), 1);
    let odd = Server::closing("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let error = smol::block_on(client.get(&odd.url).send()).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1"), "{error}");
}

#[test]
fn a_redirection_over_servers_keeps_secrets_at_home() {
    let Some(server) =
        Foreign::nginx("location /echo { return 200 \"$http_authorization|$http_cookie|$http_x_keep\"; }")
    else {
        return;
    };
    let there = server.url("/echo");
    let front = Server::new(move |peer| {
        peer.request();
        peer.answer(302, &format!("Location: {there}\r\n"), "");
    });
    let request = Client::default().get(&front.url).bearer("secret").header("Cookie", "a=b").header("X-Keep", "yes");
    let seen = smol::block_on(async { request.send().await.unwrap().text(LIMIT).await.unwrap() });
    assert_eq!(seen, "||yes");
}

#[test]
fn addresses_of_hosts_can_be_given() {
    let server = Server::mirror();
    let port = server.url.rsplit(':').next().unwrap();
    let hosts = vec![("far.example".to_owned(), vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()])];
    let client = Client::new(ioto::fetch::Options { hosts, ..Default::default() });
    let seen = text(&client, &format!("http://far.example:{port}/"));
    assert!(seen.contains(&format!("Host: far.example:{port}\n")), "{seen}");
}
