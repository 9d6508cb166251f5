//! The actions. Each is one function; what it answers is in its comment.

use ioto::web::{Cookie, Error, Event, Exchange, Message, Server};
use serde_json::Value;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::{crash, show};

const TEXT: &str = "text/plain";
const HTML: &str = "text/html; charset=utf-8";

/// Binds all of them.
pub fn add(server: Server) -> Server {
    let server = server
        .action("/test/event", events)
        .action("/test/form", form)
        .action("/test/bulk", bulk)
        .action("/test/error", error)
        .action("/test/success", success)
        .action("/test/bench", success)
        .action("/test/put", put)
        .action("/test/show", show::show)
        .action("/test/upload", show::upload)
        .action("/test/stream", stream)
        .action("/stream", stream)
        .action("/test/ws", echo)
        .action("/ws", echo)
        .action("/test/session/create", create)
        .action("/test/session/check", check)
        .action("/test/cookie", cookie)
        .action("/test/xsrf", xsrf)
        .action("/test/sig", signature)
        .action("/test/buffer", buffer);
    crash::add(server)
}

/// 100 events, `Event 0` to `Event 99`.
async fn events(exchange: &mut Exchange) -> Result<(), Error> {
    let mut events = exchange.events()?;
    for number in 0..100 {
        let (id, data) = (number.to_string(), format!("Event {number}"));
        events.send(&Event { id: Some(&id), ..Event::new(&data) }).await?;
    }
    events.finish().await
}

/// A page with a form, and what was sent of it.
async fn form(exchange: &mut Exchange) -> Result<(), Error> {
    // It reads the body, which can be read once.
    let shown = show::describe(exchange).await?;
    let value = |name| escape(shown["form"][name].as_str().or(shown["query"][name].as_str()).unwrap_or_default());
    let page = format!(
        "<html><head><title>form</title></head>\n<body><form name='details' method='post' action='form'>\n\
         Name <input type='text' name='name' value='{}'>\nAddress <input type='text' name='address' value='{}'>\n\
         <input type='submit' name='submit' value='OK'></form>\n\n<h3>Request Details</h3>\n\n<pre>\n{}\n</pre>\n\
         </body>\n</html>\n",
        value("name"),
        value("address"),
        escape(&shown.to_string()),
    );
    exchange.set_header("Cache-Control", "no-cache")?;
    exchange.send(HTML, page).await
}

/// As many lines as the variable `count` of the form or the query says, 100 when it does not.
async fn bulk(exchange: &mut Exchange) -> Result<(), Error> {
    let count = match exchange.variables().await?.get("count") {
        Some(text) => text.parse::<u64>().map_err(|_| Error::status(400, "count is no number"))?,
        None => 100,
    };
    let mut out = exchange.stream(TEXT)?;
    for number in 0..count {
        out.write_all(format!("Hello World {number:010}\n").as_bytes()).await?;
    }
    out.finish().await
}

/// An action that fails: a 500 with an id that is in the log.
async fn error(_: &mut Exchange) -> Result<(), Error> {
    Err(Error::failed("this action fails on purpose"))
}

/// `success`
async fn success(exchange: &mut Exchange) -> Result<(), Error> {
    exchange.send(TEXT, "success\n").await
}

/// The number of bytes of the body.
async fn put(exchange: &mut Exchange) -> Result<(), Error> {
    let length = receive(exchange).await?;
    exchange.send(TEXT, format!("{length}\n")).await
}

/// The length of the body, which is read as it comes.
async fn stream(exchange: &mut Exchange) -> Result<(), Error> {
    let length = receive(exchange).await?;
    exchange.send("application/json", format!("{{length: {length}}}")).await
}

async fn receive(exchange: &Exchange) -> Result<u64, Error> {
    let (mut body, mut buffer, mut length) = (exchange.body(), vec![0; 16 * 1024], 0);
    loop {
        match body.read(&mut buffer).await? {
            0 => return Ok(length),
            bytes => length += bytes as u64,
        }
    }
}

/// A WebSocket that echoes. Its sub-protocol is that of `web.webSockets.protocol`, `chat` when that is not set.
async fn echo(exchange: &mut Exchange) -> Result<(), Error> {
    let mut socket = exchange.upgrade(&[]).await?;
    while let Some(message) = socket.receive().await? {
        match message {
            Message::Text(text) => socket.send(text).await?,
            Message::Binary(bytes) => socket.send(bytes).await?,
        }
    }
    Ok(())
}

/// Begins a session with a random token, and answers with that token.
async fn create(exchange: &mut Exchange) -> Result<(), Error> {
    let token: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
    exchange.session().set("token", &token)?;
    exchange.send(TEXT, token).await
}

/// `success` when the query is the token of the session.
async fn check(exchange: &mut Exchange) -> Result<(), Error> {
    let query = exchange.target().split_once('?').map_or("", |(_, query)| query).to_owned();
    let is_right = exchange.session().get("token").is_some_and(|token| token == query);
    exchange.send(TEXT, if is_right { "success" } else { "token mismatch" }).await
}

/// Sets the cookie that the query variables `name`, `value` and `path` describe.
async fn cookie(exchange: &mut Exchange) -> Result<(), Error> {
    let wanted = |name: &str| exchange.query(name).ok_or_else(|| Error::status(400, format!("say {name}=")));
    let cookie = Cookie::new(wanted("name")?, wanted("value")?).path(exchange.query("path").unwrap_or("/".to_owned()));
    exchange.set_cookie(&cookie).map_err(|_| Error::status(400, "that is no cookie"))?;
    exchange.send(TEXT, "success\n").await
}

/// `success`; the server has checked the token.
async fn xsrf(exchange: &mut Exchange) -> Result<(), Error> {
    exchange.send(TEXT, "success").await
}

/// The body after validation; nothing for nothing. What the client sends is what its answer must be: it is told when it is not.
async fn signature(exchange: &mut Exchange) -> Result<(), Error> {
    let value = match exchange.json().await {
        Ok(value) => value,
        Err(_) if exchange.bytes().await?.is_empty() => Value::Null,
        Err(error) => return Err(error),
    };
    if value.is_null() {
        return exchange.send("application/json", "").await;
    }
    let sent = exchange.send_json(&value).await;
    sent.map_err(|error| match error {
        Error::Io(_) | Error::Answered => error,
        error => Error::status(400, error.to_string()),
    })
}

/// Seven lines that are sent at once.
async fn buffer(exchange: &mut Exchange) -> Result<(), Error> {
    let lines: String = (1..=7).map(|number| format!("Hello World {number}\n")).collect();
    exchange.send(TEXT, lines).await
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
