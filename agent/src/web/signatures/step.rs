//! What stands before an action or a program whose route validates, and behind an action.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::check::{Check, Mismatch, Place, Side, hide};
use super::measure::measure;
use super::model::{Block, Kind, Signature, Signatures};
use super::text;
use crate::config::Route;
use crate::web::exchange::form_decode;
use crate::web::form::{Form, MAX_FIELDS};
use crate::web::media::Parameterized;
use crate::web::router::find_route;
use crate::web::{Error, Exchange, auth};

/// A request that fits its signature.
pub(in crate::web) struct Validation {
    signatures: Arc<Signatures>,
    /// Where the signature is; nothing: it has none, and need not.
    path: Option<String>,
    body: Received,
    query: Option<Vec<(String, String)>>,
}

/// The body of the request.
enum Received {
    /// Nothing is said about it: it is not read.
    Unread,
    Json(Value),
    Form(Map<String, Value>),
}

/// Validates the request: lets it go on to its action or program (`true`), or answers it.
///
/// # Errors
/// Those of the gate, of reading the body and of sending.
pub(in crate::web) async fn enter(exchange: &mut Exchange) -> Result<bool, Error> {
    let shared = exchange.shared.clone();
    let Some(route) = find_route(&shared, &exchange.path).filter(|route| route.validate) else { return Ok(true) };
    let Some(signatures) = shared.signatures() else { return Ok(true) };
    let path = below(route, &exchange.path).to_owned();
    let Some(signature) = signatures.find(&path) else {
        if signatures.strict {
            let problem = mismatch("path", "a method that has a signature", "none");
            return refuse(exchange, "", &[problem]).await.map(|()| false);
        }
        let signatures = signatures.clone();
        exchange.validation =
            Some(Box::new(Validation { signatures, path: None, body: Received::Unread, query: None }));
        return Ok(true);
    };
    if !signature.role.is_empty() && !auth::admit_to(exchange, route, &signature.role).await? {
        return Ok(false);
    }
    let mut problems = Vec::new();
    let query = query(exchange, signature, signatures.strict, &mut problems);
    let body = body(exchange, signature, signatures.strict, &mut problems).await?;
    if !problems.is_empty() {
        problems.truncate(super::check::MAX_PROBLEMS);
        return refuse(exchange, &signature.name, &problems).await.map(|()| false);
    }
    let signatures = signatures.clone();
    exchange.validation = Some(Box::new(Validation { signatures, path: Some(path), body, query }));
    Ok(true)
}

/// What the path is below its route; of a route that is no prefix, all of it.
fn below<'a>(route: &Route, path: &'a str) -> &'a str {
    match route.matches.ends_with('/') {
        true => path.strip_prefix(route.matches.as_str()).unwrap_or(path),
        false => path,
    }
}

/// The query variables as they are passed on; nothing: as they were sent.
fn query(
    exchange: &Exchange,
    signature: &Signature,
    strict: bool,
    problems: &mut Vec<Mismatch>,
) -> Option<Vec<(String, String)>> {
    let sent = exchange.head.query().unwrap_or_default();
    let Some(block) = &signature.query else {
        // What nothing is said about does not reach the action; clients add variables of their own, against caches.
        return (strict && !sent.is_empty()).then(Vec::new);
    };
    let mut variables = Vec::new();
    for pair in sent.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (form_decode(name), form_decode(value)) {
            (Some(name), Some(value)) if variables.len() < MAX_FIELDS => variables.push((name, value)),
            (Some(_), Some(_)) => problems.push(mismatch("query", "at most 1000 variables", "more")),
            _ => problems.push(mismatch("query", "percent-encoded UTF-8", "something else")),
        }
        if !problems.is_empty() {
            return None;
        }
    }
    object("query", block, variables.into_iter(), exchange, strict, problems).map(|object| text::fields(&object))
}

/// The body as it is passed on.
async fn body(
    exchange: &Exchange,
    signature: &Signature,
    strict: bool,
    problems: &mut Vec<Mismatch>,
) -> Result<Received, Error> {
    let is_empty = exchange.transfer.borrow().is_received();
    let Some(block) = &signature.request else {
        if strict && !is_empty {
            problems.push(mismatch("body", "no body", "one"));
        }
        return Ok(Received::Unread);
    };
    if is_empty {
        let is_form = exchange.media_type().is_ok_and(|media| is_form(&media));
        return Ok(match without_body(exchange, block, strict, problems) {
            Received::Json(Value::Object(object)) if is_form => Received::Form(object),
            received => received,
        });
    }
    // Who takes the body may decode it, and read something else than was validated.
    if exchange.header("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(Error::status(415, "the body is encoded; send it as it is"));
    }
    let is_form = match exchange.header("content-type") {
        None => false,
        Some(_) => {
            let media = exchange.media_type()?;
            let is_form = is_form(&media);
            if !(is_form || is_json(&media)) || !media.is_utf8() {
                let text = "expected application/json or application/x-www-form-urlencoded, in UTF-8";
                return Err(Error::status(415, text));
            }
            is_form
        }
    };
    let bytes = exchange.bytes().await?;
    if is_form {
        let form = Form::decode(&bytes)?;
        let fields = form.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        if !matches!(block.kind, Kind::Object | Kind::Any) {
            problems.push(mismatch("body", block.kind.describe(), "a form"));
            return Ok(Received::Unread);
        }
        let object = object("body", block, fields, exchange, strict, problems);
        return Ok(object.map_or(Received::Unread, Received::Form));
    }
    if let Err(most) = measure(&bytes) {
        problems.push(mismatch("body", &most, "more"));
        return Ok(Received::Unread);
    }
    match serde_json::from_slice(&bytes) {
        Ok(mut value) => {
            check(exchange, strict, problems, |check| check.value(block, &mut value, Place::Root("body")));
            Ok(Received::Json(value))
        }
        Err(error) => {
            problems.push(mismatch("body", "JSON", &format!("something else ({error})")));
            Ok(Received::Unread)
        }
    }
}

/// A request without a body is one with an object that is empty, where an object is expected.
fn without_body(exchange: &Exchange, block: &Block, strict: bool, problems: &mut Vec<Mismatch>) -> Received {
    let mut value = match (block.kind, &block.default) {
        (_, Some(default)) => default.clone(),
        (Kind::Object, None) => Value::Object(Map::new()),
        (Kind::Null, None) => Value::Null,
        (kind, None) => {
            if block.required || !matches!(kind, Kind::Any | Kind::String) {
                problems.push(mismatch("body", kind.describe(), "nothing"));
            }
            return Received::Unread;
        }
    };
    check(exchange, strict, problems, |check| check.value(block, &mut value, Place::Root("body")));
    Received::Json(value)
}

/// Fields of texts as an object that fits.
fn object(
    root: &str,
    block: &Block,
    fields: impl Iterator<Item = (String, String)>,
    exchange: &Exchange,
    strict: bool,
    problems: &mut Vec<Mismatch>,
) -> Option<Map<String, Value>> {
    match text::object(block, fields) {
        Ok(mut object) => {
            check(exchange, strict, problems, |check| check.object(block, &mut object, Place::Root(root)));
            Some(object)
        }
        Err(name) => {
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            problems.push(mismatch(&format!("{root}.{name}"), "one value", "several"));
            None
        }
    }
}

fn check(exchange: &Exchange, strict: bool, problems: &mut Vec<Mismatch>, run: impl FnOnce(&mut Check)) {
    let can = |role: &str| exchange.can(role);
    let mut check = Check { side: Side::Request, strict, can: &can, problems: std::mem::take(problems) };
    run(&mut check);
    *problems = check.problems;
}

fn mismatch(field: &str, expected: &str, found: &str) -> Mismatch {
    Mismatch { field: field.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

/// Tells the client all that does not fit.
async fn refuse(exchange: &mut Exchange, signature: &str, problems: &[Mismatch]) -> Result<(), Error> {
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| json!({"field": problem.field, "expected": problem.expected, "found": problem.found}))
        .collect();
    let mut answer = json!({"error": "the request does not fit its signature", "problems": problems});
    if let Some(answer) = answer.as_object_mut().filter(|_| !signature.is_empty()) {
        answer.insert("signature".to_owned(), signature.into());
    }
    exchange.set_status(400);
    exchange.set_header("Cache-Control", "no-store")?;
    exchange.deliver("application/json", &serde_json::to_vec(&answer)?).await
}

impl Validation {
    /// The body, if it was read.
    pub fn json(&self) -> Option<Value> {
        match &self.body {
            Received::Unread => None,
            Received::Json(value) => Some(value.clone()),
            Received::Form(object) => Some(Value::Object(object.clone())),
        }
    }

    /// The body as it would have been sent, if it was read.
    pub fn bytes(&self) -> Option<Result<Vec<u8>, Error>> {
        match &self.body {
            Received::Unread => None,
            Received::Json(value) => Some(serde_json::to_vec(value).map_err(Error::from)),
            Received::Form(object) => Some(Ok(text::encode(&text::fields(object)))),
        }
    }

    /// What a body from here is, for those who do not know the client.
    pub fn content_type<'a>(&self, exchange: &'a Exchange) -> &'a str {
        let said = exchange.header("content-type");
        let is_json = |said: &&str| Parameterized::parse(said).is_some_and(|media| is_json(&media));
        match self.body {
            Received::Form(_) => said,
            Received::Json(_) | Received::Unread => said.filter(is_json),
        }
        .unwrap_or("application/json")
    }

    /// The query as it would have been sent, if there is a block for it.
    pub fn query(&self) -> Option<String> {
        String::from_utf8(text::encode(self.variables()?)).ok()
    }

    /// The query variables, if there is a block for them.
    pub fn variables(&self) -> Option<&[(String, String)]> {
        self.query.as_deref()
    }

    /// The body that goes out in place of this one; `None`: this one.
    ///
    /// # Errors
    /// It is JSON and does not fit.
    pub fn outgoing(&self, exchange: &Exchange, content_type: &str, body: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if body.is_empty() || !Parameterized::parse(content_type).is_some_and(|media| is_json(&media)) {
            return Ok(None);
        }
        let mut value: Value = serde_json::from_slice(body)?;
        self.fit(exchange, &mut value)?;
        Ok(Some(serde_json::to_vec(&value)?))
    }

    /// Whether there is a signature that tells what the answer is.
    pub fn has_response(&self) -> bool {
        self.signature().is_some_and(|signature| signature.response.is_some())
    }

    fn signature(&self) -> Option<&Signature> {
        self.signatures.find(self.path.as_deref()?)
    }

    /// Takes out of an answer what the user may not see.
    ///
    /// # Errors
    /// It does not fit.
    pub fn fit(&self, exchange: &Exchange, value: &mut Value) -> Result<(), Error> {
        // Errors have their own form.
        let Some(signature) = self.signature().filter(|_| exchange.status() < 400) else {
            hide(value);
            return Ok(());
        };
        let Some(block) = &signature.response else {
            hide(value);
            return Ok(());
        };
        let can = |role: &str| exchange.can(role);
        let mut check = Check { side: Side::Response, strict: self.signatures.strict, can: &can, problems: Vec::new() };
        check.value(block, value, Place::Root("response"));
        let wrong: Vec<_> = (check.problems.iter())
            .map(|problem| format!("{}: expected {}, found {}", problem.field, problem.expected, problem.found))
            .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => {
                let (name, wrong) = (&signature.name, wrong.join("; "));
                Err(Error::failed(format!("the answer does not fit the signature {name}: {wrong}")))
            }
        }
    }
}

fn is_form(media: &Parameterized) -> bool {
    media.is("application/x-www-form-urlencoded")
}

fn is_json(media: &Parameterized) -> bool {
    media.is("application/json") || media.value.to_ascii_lowercase().ends_with("+json")
}
