//! A proxy for tests: HTTP that forwards or makes tunnels, and SOCKS5, on one port. Every host is this machine.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Gate {
    pub address: SocketAddr,
    carried: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    /// It stands open until the test ends. With a login, as `USER:PASSWORD`, it lets nobody else through.
    pub fn open(login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::<Mutex<Vec<String>>>::default();
        let notes = carried.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let passage = Passage { login, notes: notes.clone() };
                thread::spawn(move || drop(passage.carry(client)));
            }
        });
        Self { address, carried }
    }

    /// What it carried since the last call: `GET URL`, `CONNECT HOST:PORT` or `SOCKS HOST:PORT`.
    pub fn carried(&self) -> Vec<String> {
        std::mem::take(&mut self.carried.lock().unwrap())
    }
}

struct Passage {
    login: Option<&'static str>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Passage {
    fn note(&self, text: String) {
        self.notes.lock().unwrap().push(text);
    }

    fn carry(&self, client: TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        let mut first = [0];
        client.peek(&mut first)?;
        if first[0] == 5 { self.socks(client) } else { self.http(client) }
    }

    fn http(&self, mut client: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut far: Option<TcpStream> = None;
        while let Some((line, fields)) = read_head(&mut reader)? {
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let given = fields.iter().find_map(|field| field.strip_prefix("Proxy-Authorization: Basic "));
            if given.map(str::to_owned) != self.login.map(base64) {
                return client.write_all(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n");
            }
            self.note(format!("{method} {target}"));
            if method == "CONNECT" {
                let far = TcpStream::connect(local(&target))?;
                client.write_all(b"HTTP/1.1 200 Established\r\n\r\n")?;
                return splice(client, far);
            }
            let rest = target.strip_prefix("http://").unwrap();
            let (place, path) = rest.split_at(rest.find('/').unwrap());
            let far = match &mut far {
                Some(far) => far,
                None => {
                    let connected = TcpStream::connect(local(place))?;
                    let (mut from, mut to) = (connected.try_clone()?, client.try_clone()?);
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                    far.insert(connected)
                }
            };
            let length = fields.iter().find_map(|field| field.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body)?;
            let kept = fields.iter().filter(|field| !field.starts_with("Proxy-"));
            let head: String = kept.map(|field| format!("{field}\r\n")).collect();
            far.write_all(&[format!("{method} {path} HTTP/1.1\r\n{head}\r\n").as_bytes(), &body].concat())?;
        }
        Ok(())
    }

    fn socks(&self, mut client: TcpStream) -> Result<()> {
        let methods = take(&mut client, 2)?[1];
        let methods = take(&mut client, methods.into())?;
        let wanted = if self.login.is_some() { 2 } else { 0 };
        if !methods.contains(&wanted) {
            return client.write_all(&[5, 255]);
        }
        client.write_all(&[5, wanted])?;
        if let Some(login) = self.login {
            let user = take(&mut client, 2)?[1];
            let user = take(&mut client, user.into())?;
            let password = take(&mut client, 1)?[0];
            let given = [user, b":".to_vec(), take(&mut client, password.into())?].concat();
            let is_right = given == login.as_bytes();
            client.write_all(&[1, u8::from(!is_right)])?;
            if !is_right {
                return Ok(());
            }
        }
        let host = match take(&mut client, 4)?[3] {
            1 => take(&mut client, 4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
            3 => {
                let length = take(&mut client, 1)?[0];
                String::from_utf8(take(&mut client, length.into())?).unwrap()
            }
            other => panic!("an address of the kind {other}"),
        };
        let port = take(&mut client, 2)?;
        let place = format!("{host}:{}", u16::from_be_bytes([port[0], port[1]]));
        self.note(format!("SOCKS {place}"));
        let far = TcpStream::connect(local(&place))?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        splice(client, far)
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<Option<(String, Vec<String>)>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => return Ok(Some((lines.remove(0), lines))),
            line => lines.push(line.to_owned()),
        }
    }
}

/// The port of a host, on this machine.
fn local(place: &str) -> SocketAddr {
    let port = place.rsplit_once(':').map_or(80, |(_, port)| port.parse().unwrap());
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn take(stream: &mut TcpStream, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn splice(mut client: TcpStream, mut far: TcpStream) -> Result<()> {
    let (mut from, mut to) = (client.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut far, &mut client);
    client.shutdown(Shutdown::Both)
}

fn base64(text: &str) -> String {
    ioto::net::base64::encode(text.as_bytes())
}
