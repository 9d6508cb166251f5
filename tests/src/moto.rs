//! AWS, simulated by moto: DynamoDB with one table, signatures verified.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::{Proxy, Signal, free_port, python, repository, send};

/// A moto server with a DynamoDB table and a user who may use it, behind a [`Proxy`].
///
/// Its data is in its memory, so a real stop would lose it: an outage closes the proxy.
pub struct Moto {
    child: Child,
    /// moto ends when this closes, however the test ends.
    _lifeline: Option<ChildStdin>,
    access: Value,
    proxy: Proxy,
}

impl Moto {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        Self::start_for("dynamodb:*")
    }

    /// Starts it with a table that has a stream of its changes, for a [`Function`](crate::Function).
    pub fn with_stream() -> Self {
        Self::launch(&["--stream"])
    }

    /// Starts it with a user who may carry out these actions, as `s3:*,logs:PutLogEvents`.
    pub fn start_for(actions: &str) -> Self {
        Self::launch(&["--allow", actions])
    }

    /// The program `dynalite` with the table in its place, which looks at no signatures.
    pub fn dynalite(program: &str) -> Self {
        Self::launch(&["--dynalite", program])
    }

    fn launch(arguments: &[&str]) -> Self {
        let port = free_port();
        let mut child = cloud()
            .args(["serve", "--stdin", "--port", &port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start moto");
        let lifeline = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("read from moto");
        let access = serde_json::from_str(&line).unwrap_or_else(|_| panic!("moto did not start; it said: {line:?}"));
        let proxy = Proxy::new(SocketAddr::from(([127, 0, 0, 1], port)));
        Self { child, _lifeline: lifeline, access, proxy }
    }

    /// What the agent needs to replicate to it, as the text of a configuration file.
    pub fn settings(&self) -> String {
        let [region, table, id, secret] =
            ["region", "table", "access_key_id", "secret_access_key"].map(|key| &self.access[key]);
        let endpoint = self.endpoint();
        format!(
            "{{
    services: {{database: true, sync: true}},
    sync: {{table: {table}}},
    aws: {{endpoint: '{endpoint}', region: {region}, accessKeyId: {id}, secretAccessKey: {secret}}},
}}"
        )
    }

    /// How to get in: `region`, `table`, `access_key_id` and `secret_access_key`.
    pub fn access(&self, key: &str) -> &str {
        self.access[key].as_str().expect("moto tells how to get in")
    }

    /// The line of JSON that says how to get in, past the proxy.
    pub fn line(&self) -> String {
        self.access.to_string()
    }

    /// The URL of the proxy in front of it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// From now on connections are refused, and those that stand are cut. The data stays.
    pub fn outage(&mut self) {
        self.proxy.close();
    }

    /// Ends the outage.
    pub fn recover(&mut self) {
        self.proxy.open();
    }

    /// The proxy, for other faults.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// It stands still: connections are accepted, nothing is answered.
    pub fn pause(&self) {
        send(&self.child, Signal::Stop);
    }

    /// Ends [`Moto::pause`].
    pub fn resume(&self) {
        send(&self.child, Signal::Cont);
    }

    /// All items of the table, read with boto3, past the proxy. Binary values come as hexadecimal text.
    pub fn scan(&self) -> Vec<Value> {
        let mut child =
            cloud().args(["scan", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start the scan");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(self.access.to_string().as_bytes()).expect("write to the scan");
        drop(stdin);
        let output = child.wait_with_output().expect("wait for the scan");
        assert!(output.status.success(), "the scan failed: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an item")).collect()
    }

    /// Somebody deletes an item for good, as the console does; it is as [`scan`](Self::scan) found it. It goes past the proxy.
    pub fn delete(&self, item: &Value) {
        let [key, sort] = ["pk", "sk"].map(|name| item[name].as_str().expect("an item has keys"));
        self.order(&["delete", "-", key, sort]);
    }

    /// Somebody changes an item as a cloud writer does it; without fields it is removed. It goes past the proxy.
    pub fn edit(&self, thing: &str, model: &str, key: &str, fields: Option<&Value>) {
        let fields = fields.map(Value::to_string);
        let words = ["edit", "-", thing, model, key].into_iter().chain(fields.as_deref());
        self.order(&words.collect::<Vec<_>>());
    }

    /// Runs `cloud.py` with these words.
    fn order(&self, words: &[&str]) {
        let mut child = cloud().args(words).stdin(Stdio::piped()).spawn().expect("start cloud.py");
        write!(child.stdin.take().expect("it is piped"), "{}", self.access).expect("tell it how to get in");
        assert!(child.wait().expect("wait for it").success(), "cloud.py {words:?}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Moto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moto").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// `ci/cloud.py`.
fn cloud() -> Command {
    let mut command = python();
    command.arg(repository().join("ci/cloud.py"));
    command
}
