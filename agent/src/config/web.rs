//! `web`: the embedded web server.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::node::{Node, Value, quote};
use super::section::{Section, choose, text};
use super::units::{FOREVER, show_duration};
use super::{
    AccessLog, Auth, AuthAlgorithm, AuthType, Directories, Listen, Place, Profile, Proxies, Proxy, Redirect, Scheme,
    WebLimits, WebSignatures, WebSockets, WebTimeouts, WebUpload, redirect,
};

/// Fields that frame a message or describe its body: they differ from response to response.
const OWN_HEADERS: [&str; 5] = ["connection", "content-length", "content-type", "date", "transfer-encoding"];

/// One entry of `web.routes`; the first that matches serves the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// `match`: empty matches all, a trailing `/` matches a prefix, anything else the exact path.
    pub matches: String,
    /// `handler`: `file`, `action` or `proxy`.
    pub handler: String,
    /// `methods`; empty: GET and HEAD for files; for actions those that `Access-Control-Allow-Methods` of `web.headers` lists,
    /// or all. For files also `PUT` (writes the file) and `DELETE`
    /// (removes it) can be listed; then everyone who may use the route may do so.
    pub methods: Vec<String>,
    /// `role`: the role or ability that the user must have; empty: it is open to all.
    pub role: String,
    /// `authType`: how a user proves who it is, where there is a role.
    pub auth_type: AuthType,
    /// `algorithm`: of digest authentication.
    pub algorithm: AuthAlgorithm,
    /// `redirect`: without a role, where all requests are sent (302); with one, where a visitor goes who asks for a page (GET)
    /// and is not logged in, in place of the answer 401.
    pub redirect: Option<Place>,
    /// `trim`: what is taken off the front of the path before the handler sees it.
    pub trim: String,
    /// `stream`: an action may read a body of any length. Otherwise one that is longer than `web.limits.body` is refused, if
    /// the length is told before anything of it is read; forms with files have `web.limits.upload`.
    pub stream: bool,
    /// `proxy`: the program that answers, for the handler of that name.
    pub proxy: Option<Proxy>,
    /// `xsrf`: requests that change something must carry the token that answers to GET bring.
    pub xsrf: bool,
    /// `compressed`: beside a file `x` may lie `x.br` and `x.gz` with the same content, not older than it; they are sent in
    /// its place to clients that take them. Off unless it is set, because looking for them costs each request two system
    /// calls.
    pub compressed: bool,
    /// `cache`: what `Cache-Control` tells of the files; without it there is no such field.
    pub cache: Option<Cache>,
    /// `validate`: requests and responses must fit their signatures, see [`WebSignatures`].
    pub validate: bool,
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
    /// `web.name`: the host by which clients know the device, for the targets of redirects; nothing: as they asked for it.
    pub name: Option<Place>,
    /// `web.headers`: added to every response, in place of those of [`Web::protect`]; an empty value takes such a one away.
    pub headers: Vec<(String, String)>,
    /// `web.protect`: every response carries the usual headers that tell browsers to be careful, see the README. On by default
    /// in profile prod.
    pub protect: bool,
    /// Whether `tls.certificate` names a certificate: with [`Web::protect`] browsers are then told to use TLS alone. No key.
    pub certified: bool,
    /// `web.redirect`
    pub redirects: Vec<Redirect>,
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
    /// `web.proxy`
    pub proxy: Proxies,
    /// `web.auth`
    pub auth: Auth,
    /// `web.signatures`
    pub signatures: WebSignatures,
    /// `web.accessLog`
    pub access_log: AccessLog,
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
            name: None,
            headers: Vec::new(),
            protect: true,
            certified: false,
            redirects: Vec::new(),
            routes: Vec::new(),
            mime: Vec::new(),
            limits: WebLimits::default(),
            timeouts: WebTimeouts::default(),
            sockets: WebSockets::default(),
            upload: WebUpload::default(),
            proxy: Proxies::default(),
            auth: Auth::default(),
            signatures: WebSignatures::default(),
            access_log: AccessLog::default(),
            open: false,
        }
    }
}

impl Web {
    pub(super) fn read(s: &Section, profile: Profile, directories: &Directories) -> Self {
        let d = Self::default();
        let api = s.section("api");
        let name = Place::read_name(s);
        let realm = name.as_ref().map(Place::authority);
        let auth = Auth::read(s, realm.as_deref());
        let signatures = WebSignatures::read(&s.section("signatures"), directories);
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
            name,
            headers: s.map("headers", |value: &String| Json::from(value.as_str()), header),
            protect: s.flag("protect", profile == Profile::Prod),
            certified: d.certified,
            redirects: Redirect::read_all(s),
            routes: s.list("routes", d.routes, show_route, |node, item| match node.value {
                Value::Object(_) => Ok(Route::read(&item, &auth, &signatures)),
                _ => Err(format!("expected an object, found {}", node.describe())),
            }),
            mime: s.map("mime", |value: &String| Json::from(value.as_str()), |_, node| header_value(node)),
            limits: WebLimits::read(&s.section("limits")),
            timeouts: WebTimeouts::read(&s.section("timeouts")),
            sockets: WebSockets::read(&s.section("webSockets")),
            upload: WebUpload::read(&s.section("upload"), directories),
            proxy: Proxies::read(&s.section("proxy")),
            auth: auth.clone(),
            signatures: signatures.clone(),
            access_log: AccessLog::read(&s.section("accessLog")),
            open: api.flag("open", d.open),
        };
        if web.open && profile == Profile::Prod {
            api.problem("open", "the API is never open in profile prod, expected false (or profile dev)");
        }
        redirect::refuse_circles(s, &web);
        web
    }
}

impl Route {
    fn read(s: &Section, auth: &Auth, signatures: &WebSignatures) -> Self {
        let (role, auth_type, algorithm) = auth.read_route(s);
        let handler = handler(s);
        Self {
            matches: s.text("match", ""),
            proxy: Proxy::read(s, &handler),
            handler,
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
            redirect: Place::read_target(s, "redirect"),
            trim: s.value("trim", String::new(), |path| Json::from(path.as_str()), trim),
            stream: s.flag("stream", false),
            compressed: s.flag("compressed", false),
            xsrf: s.flag("xsrf", false),
            cache: Cache::read(s),
            validate: signatures.read_route(s),
            role,
            auth_type,
            algorithm,
        }
    }
}

impl Route {
    /// Whether the route is meant for a path, as far as `match` says it.
    pub fn covers(&self, path: &str) -> bool {
        match self.matches.as_str() {
            "" => true,
            "/" => path == "/",
            prefix if prefix.ends_with('/') => path.starts_with(prefix),
            exact => path == exact,
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
        let cache = Self {
            max_age,
            directives: s.texts("directives", directive),
            extensions: s.texts("extensions", |extension| Ok(extension.trim_start_matches('.').to_ascii_lowercase())),
        };
        route.has("cache").then_some(cache)
    }
}

fn show_route(route: &Route) -> Json {
    let role = if route.role.is_empty() { "public" } else { &route.role };
    let mut shown = json!({"match": route.matches, "handler": route.handler, "methods": route.methods, "role": role});
    if let Some(to) = &route.redirect {
        shown["redirect"] = Json::from(to.to_string());
    }
    if !route.trim.is_empty() {
        shown["trim"] = Json::from(route.trim.as_str());
    }
    if route.stream {
        shown["stream"] = Json::from(true);
    }
    if let Some(proxy) = &route.proxy {
        shown["proxy"] = Json::from(proxy.to_string());
    }
    if route.xsrf {
        shown["xsrf"] = Json::from(true);
    }
    if route.compressed {
        shown["compressed"] = Json::from(true);
    }
    if route.validate {
        shown["validate"] = Json::from(true);
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

/// An empty name is that of the default, as in the files of others.
fn handler(s: &Section) -> String {
    let names = [("file", "file"), ("action", "action"), ("proxy", "proxy")];
    let show = |name: &String| Json::from(name.as_str());
    s.value("handler", "file".into(), show, |node| match &node.value {
        Value::Text(text) if text.is_empty() => Ok("file".into()),
        _ => choose(node, &names).map(str::to_owned),
    })
}

fn trim(node: &Node) -> Result<String, String> {
    let path = text(node)?;
    match path.is_empty() || path.starts_with('/') {
        true => Ok(path),
        false => Err(format!("expected the front of a path as '/app', found {}", quote(&path))),
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
    match node.value {
        Value::Null => Ok(String::new()),
        _ => header_value(node),
    }
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
