//! A request as JSON.

use ioto::http1::percent_decode;
use ioto::web::{Error, Exchange, Form, Upload};
use serde_json::{Map, Value, json};

/// Answers with all there is to know about the request.
pub async fn show(exchange: &mut Exchange) -> Result<(), Error> {
    let shown = describe(exchange).await?;
    exchange.send_json(&shown).await
}

/// The same, and keeps the files in the directory of uploads under the names that the client gave them.
pub async fn upload(exchange: &mut Exchange) -> Result<(), Error> {
    let shown = describe_with(exchange, |file| {
        let is_plain = !file.file_name().starts_with('.') && !file.file_name().contains(['/', '\\', '\0']);
        match file.path().parent().filter(|_| is_plain && !file.file_name().is_empty()) {
            Some(dir) => std::fs::copy(file.path(), dir.join(file.file_name())).map(drop),
            None => Ok(()),
        }
    });
    let shown = shown.await?;
    exchange.send_json(&shown).await
}

/// URL, method, protocol, query, headers, form, uploads, and the body where it is text.
pub async fn describe(exchange: &Exchange) -> Result<Value, Error> {
    describe_with(exchange, |_| Ok(())).await
}

async fn describe_with(exchange: &Exchange, keep: impl Fn(&Upload) -> std::io::Result<()>) -> Result<Value, Error> {
    let mut shown = json!({
        "url": exchange.target(),
        "method": exchange.method().as_str(),
        "protocol": exchange.version().as_str(),
        "query": Value::Object(exchange.queries().map(|(name, value)| (name, value.into())).collect()),
        "headers": headers(exchange),
        "form": {},
        "uploads": [],
    });
    let media = exchange.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let media = media.trim().to_ascii_lowercase();
    let mut body = Vec::new();
    if media == "multipart/form-data" {
        let received = exchange.uploads(exchange.upload_dir(), exchange.upload_limits()).await?;
        shown["form"] = members(&received.form);
        received.files.iter().try_for_each(&keep)?;
        let files = received.files.iter().map(|file| {
            json!({
                "name": file.name(),
                "filename": file.path(),
                "clientFilename": file.file_name(),
                "contentType": file.content_type(),
                "size": file.size(),
            })
        });
        shown["uploads"] = files.collect();
    } else {
        body = exchange.bytes().await?;
    }
    match media.as_str() {
        "application/x-www-form-urlencoded" => shown["form"] = fields(&body)?,
        "application/json" if !body.is_empty() => {
            shown["form"] = serde_json::from_slice(&body).map_err(|_| Error::status(400, "the body is no JSON"))?;
        }
        _ => {}
    }
    shown["bodyLength"] = json!(body.len());
    if let Ok(text) = String::from_utf8(body) {
        shown["body"] = text.into();
    }
    shown["user"] = exchange.user().into();
    shown["secure"] = exchange.secure().into();
    Ok(shown)
}

/// Fields of one name are joined, as RFC 9110 §5.3 allows.
fn headers(exchange: &Exchange) -> Value {
    let mut headers = Map::new();
    for (name, value) in exchange.headers().iter() {
        let joined = match headers.get(name).and_then(Value::as_str) {
            Some(first) => format!("{first}, {value}"),
            None => value.to_owned(),
        };
        headers.insert(name.to_owned(), joined.into());
    }
    headers.into()
}

/// The fields of an encoded form. [`Exchange::form`] would have read the body, which is shown as well.
fn fields(body: &[u8]) -> Result<Value, Error> {
    let broken = || Error::status(400, "the form is not encoded as it says");
    let text = std::str::from_utf8(body).map_err(|_| broken())?;
    let decode = |text: &str| percent_decode(&text.replace('+', " ")).map(|text| text.into_owned()).ok_or_else(broken);
    let mut fields = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.insert(decode(name)?, decode(value)?.into());
    }
    Ok(fields.into())
}

fn members(form: &Form) -> Value {
    Value::Object(form.iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}
