//! `web`: the embedded web server.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::node::{Node, Value, quote};
use super::section::{Section, text};
use super::units::{FOREVER, show_duration};
use super::{
    Auth, AuthAlgorithm, AuthType, Directories, Listen, Profile, Scheme, WebLimits, WebSockets, WebTimeouts, WebUpload,
};

/// Fields that frame a message or describe its body: they differ from response to response.
const OWN_HEADERS: [&str; 5] = ["connection", "content-length", "content-type", "date", "transfer-encoding"];

/// One entry of `web.routes`; the first that matches serves the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// `match`: empty matches all, a trailing `/` matches a prefix, anything else the exact path.
    pub matches: String,
    /// `handler`: `file` or `action`.
    pub handler: String,
    /// `methods`; empty: GET and HEAD for files, all for actions. For files also `PUT` (writes the file) and `DELETE`
    /// (removes it) can be listed; then everyone who may use the route may do so.
    pub methods: Vec<String>,
    /// `role`: the role or ability that the user must have; empty: it is open to all.
    pub role: String,
    /// `authType`: how a user proves who it is, where there is a role.
    pub auth_type: AuthType,
    /// `algorithm`: of digest authentication.
    pub algorithm: AuthAlgorithm,
    /// `xsrf`: requests that change something must carry the token that answers to GET bring.
    pub xsrf: bool,
    /// `compressed`: beside a file `x` may lie `x.br` and `x.gz` with the same content, not older than it; they are sent in
    /// its place to clients that take them. Off unless it is set, because looking for them costs each request two system
    /// calls.
    pub compressed: bool,
    /// `cache`: what `Cache-Control` tells of the files; without it there is no such field.
    pub cache: Option<Cache>,
}

/// `web.routes[].cache`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// `maxAge`: how long a file may be used without asking again.
    pub max_age: Option<Duration>,
    /// `directives`: such as `public`, `no-cache` or `immutable`.
    pub directives: Vec<String>,
    /// `extensions`: only files with one of these, such as `css`; empty: all.
    pub extensions: Vec<String>,
}

/// The web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// `web.listen`
    pub listen: Vec<Listen>,
    /// `web.threads`: the agent's own thread, and more beside it.
    pub threads: usize,
    /// `web.documents`: the root of the files that are served.
    pub documents: PathBuf,
    /// `web.index`: the file that stands for a directory.
    pub index: String,
    /// `web.headers`: added to every response.
    pub headers: Vec<(String, String)>,
    /// `web.routes`; empty: actions first, then files.
    pub routes: Vec<Route>,
    /// `web.mime`: types by extension, beside the built-in ones.
    pub mime: Vec<(String, String)>,
    /// `web.limits`
    pub limits: WebLimits,
    /// `web.timeouts`
    pub timeouts: WebTimeouts,
    /// `web.webSockets`
    pub sockets: WebSockets,
    /// `web.upload`
    pub upload: WebUpload,
    /// `web.auth`
    pub auth: Auth,
    /// `web.api.open`: the management API is open to clients on this machine. Profile dev only.
    pub open: bool,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: vec![
                Listen { scheme: Scheme::Http, host: String::new(), port: 80 },
                Listen { scheme: Scheme::Https, host: String::new(), port: 443 },
            ],
            threads: 1,
            documents: "/usr/share/ioto/www".into(),
            index: "index.html".into(),
            headers: Vec::new(),
            routes: Vec::new(),
            mime: Vec::new(),
            limits: WebLimits::default(),
            timeouts: WebTimeouts::default(),
            sockets: WebSockets::default(),
            upload: WebUpload::default(),
            auth: Auth::default(),
            open: false,
        }
    }
}

impl Web {
    pub(super) fn read(s: &Section, profile: Profile, directories: &Directories) -> Self {
        let d = Self::default();
        let api = s.section("api");
        let auth = Auth::read(s);
        let web = Self {
            listen: s.list(
                "listen",
                d.listen,
                |listen| Json::from(listen.to_string()),
                |node, item| {
                    let mut listen: Listen = text(node)?.parse()?;
                    if listen.scheme == Scheme::Unix {
                        listen.host = item.resolve(&listen.host, node)?.to_string_lossy().into_owned();
                    }
                    Ok(listen)
                },
            ),
            threads: s.count("threads", 1..=16, d.threads),
            documents: s.path("documents", &directories.site),
            index: s.value("index", d.index, |index| Json::from(index.as_str()), index),
            headers: s.map("headers", |value: &String| Json::from(value.as_str()), header),
            routes: s.list("routes", d.routes, show_route, |node, item| match node.value {
                Value::Object(_) => Ok(Route::read(&item, &auth)),
                _ => Err(format!("expected an object, found {}", node.describe())),
            }),
            mime: s.map("mime", |value: &String| Json::from(value.as_str()), |_, node| header_value(node)),
            limits: WebLimits::read(&s.section("limits")),
            timeouts: WebTimeouts::read(&s.section("timeouts")),
            sockets: WebSockets::read(&s.section("webSockets")),
            upload: WebUpload::read(&s.section("upload"), directories),
            auth: auth.clone(),
            open: api.flag("open", d.open),
        };
        if web.open && profile == Profile::Prod {
            api.problem("open", "the API is never open in profile prod, expected false (or profile dev)");
        }
        web
    }
}

impl Route {
    fn read(s: &Section, auth: &Auth) -> Self {
        let (role, auth_type, algorithm) = auth.read_route(s);
        Self {
            matches: s.text("match", ""),
            handler: s.choice("handler", &[("file", "file"), ("action", "action")], "file").into(),
            methods: s.list(
                "methods",
                Vec::new(),
                |method| Json::from(method.as_str()),
                |node, _| {
                    let method = text(node)?;
                    match is_token(&method) {
                        true => Ok(method.to_ascii_uppercase()),
                        false => Err(format!("expected a method as 'GET', found {}", quote(&method))),
                    }
                },
            ),
            compressed: s.flag("compressed", false),
            xsrf: s.flag("xsrf", false),
            cache: Cache::read(s),
            role,
            auth_type,
            algorithm,
        }
    }
}

impl Cache {
    fn read(route: &Section) -> Option<Self> {
        let s = route.section("cache");
        let show = |age: &Option<Duration>| age.map_or(Json::Null, |age| Json::from(show_duration(age)));
        let max_age = match s.has("maxAge") {
            true => Some(s.duration("maxAge", Duration::ZERO..=FOREVER, Duration::ZERO)),
            false => s.value("maxAge", None, show, |_| Ok(None)),
        };
        let texts = |key: &str, parse: fn(&str) -> Result<String, String>| {
            s.list(key, Vec::new(), |item: &String| Json::from(item.as_str()), |node, _| parse(&text(node)?))
        };
        let cache = Self {
            max_age,
            directives: texts("directives", directive),
            extensions: texts("extensions", |extension| Ok(extension.trim_start_matches('.').to_ascii_lowercase())),
        };
        route.has("cache").then_some(cache)
    }
}

fn show_route(route: &Route) -> Json {
    let role = if route.role.is_empty() { "public" } else { &route.role };
    let mut shown = json!({"match": route.matches, "handler": route.handler, "methods": route.methods, "role": role});
    if route.xsrf {
        shown["xsrf"] = Json::from(true);
    }
    if route.compressed {
        shown["compressed"] = Json::from(true);
    }
    if let Some(cache) = &route.cache {
        shown["cache"] = json!({"directives": cache.directives, "extensions": cache.extensions});
        if let Some(age) = cache.max_age {
            shown["cache"]["maxAge"] = Json::from(show_duration(age));
        }
    }
    shown
}

/// One directive of `Cache-Control` (RFC 9111 §5.2): a token, perhaps with `=` and a token.
fn directive(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "x"));
    match is_token(name) && is_token(value) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected a directive as 'no-cache', found {}", quote(text))),
    }
}

fn index(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    match name.is_empty() || name.contains(['/', '\0']) {
        true => Err(format!("expected the name of a file, found {}", quote(&name))),
        false => Ok(name),
    }
}

fn header(name: &str, node: &Node) -> Result<String, String> {
    if !is_token(name) {
        return Err("is no name for a header (RFC 9110 §5.1), expected letters, digits and `-`".into());
    }
    if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err("is said by the server in each response, and a second one would contradict it".into());
    }
    header_value(node)
}

/// A text that can stand in a header field (RFC 9110 §5.5).
fn header_value(node: &Node) -> Result<String, String> {
    let value = text(node)?;
    match value.chars().any(char::is_control) {
        true => Err(format!("expected a text without control characters, found {}", quote(&value))),
        false => Ok(value),
    }
}

/// RFC 9110 §5.6.2
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
