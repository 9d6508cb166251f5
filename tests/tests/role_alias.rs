//! A device that has nothing but its certificate: AWS IoT's credentials provider gives it keys for DynamoDB.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ioto_tests::{Agent, Moto, eventually, python, readings, repository};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// The provider of `credentials_provider.py`, and what it answered.
struct Provider {
    child: Child,
    port: String,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// Its credentials are said to last for so many seconds. Makes the certificates of both sides in the directory.
    fn start(moto: &Moto, directory: &Path, seconds: u32) -> Self {
        for name in ["ca", "server", "lamp"] {
            certificate(directory, name);
        }
        let mut child = python()
            .arg(repository().join("tests/tests/credentials_provider.py"))
            .arg(directory)
            .arg(seconds.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the provider");
        writeln!(child.stdin.as_mut().expect("it is piped"), "{}", moto.line()).expect("tell it of moto");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let port = lines.next().expect("the provider starts");
        let answers = Arc::new(Mutex::new(Vec::new()));
        let answered = answers.clone();
        thread::spawn(move || lines.for_each(|line| answered.lock().expect("no panic").push(line)));
        Self { child, port, answers }
    }

    fn answers(&self) -> Vec<String> {
        self.answers.lock().expect("no panic").clone()
    }

    /// What an agent needs that has a certificate and no keys.
    fn settings(&self, moto: &Moto, directory: &Path, alias: &str) -> String {
        let (port, directory, endpoint) = (&self.port, directory.display(), moto.endpoint());
        format!(
            "{{
    device: {{id: 'lamp'}},
    services: {{database: true, sync: true}},
    sync: {{table: 'ioto'}},
    aws: {{endpoint: '{endpoint}', credentials: {{
        endpoint: 'https://127.0.0.1:{port}', roleAlias: '{alias}',
        certificate: '{directory}/lamp.crt', key: '{directory}/lamp.key', authority: '{directory}/ca.crt',
    }}}},
}}"
        )
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// NAME.crt and NAME.key, of the authority `ca`.
fn certificate(directory: &Path, name: &str) {
    let new = format!("-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key");
    let issue = match name {
        "ca" => format!("openssl req -x509 {new} -out ca.crt -days 2"),
        _ => format!(
            "printf subjectAltName=IP:127.0.0.1 > names; openssl req -new {new} -out {name}.csr; openssl x509 -req \
             -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.crt"
        ),
    };
    let script = format!("set -e; {issue}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(directory).output().expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn moto() -> Moto {
    Moto::start_for("dynamodb:*,sts:AssumeRole,iam:CreateRole,iam:PutRolePolicy")
}

fn sync_status(agent: &Agent) -> Value {
    agent.client().get("/api/status").expect("ask for the status").json()["services"]["sync"].clone()
}

#[test]
fn rows_reach_dynamodb_with_keys_that_the_certificate_brings_and_that_are_renewed() {
    let moto = moto();
    let mut agent = Agent::new();
    let directory = agent.scratch().path().to_owned();
    // They are used for 5 s, as the last 30 do not count.
    let provider = Provider::start(&moto, &directory, 35);
    agent.schema(readings::SCHEMA).configure("alias", &provider.settings(&moto, &directory, "ioto-device"));
    agent.start();
    let mut number = 0;
    eventually("there were new keys twice", LIMIT, || {
        number += 1;
        readings::post(&mut agent.client(), &format!("r{number}"), number).expect("post a row");
        thread::sleep(Duration::from_millis(250));
        (provider.answers().len() > 2).then_some(())
    });
    eventually("all rows are in DynamoDB", LIMIT, || {
        (readings::in_the_cloud(&moto).len() as i64 == number).then_some(())
    });
    assert!(provider.answers().iter().all(|answer| answer == "200 lamp"), "{:?}", provider.answers());
    assert_eq!(sync_status(&agent)["backlog"], 0);
}

#[test]
fn a_refusal_of_the_provider_is_told_and_loses_nothing() {
    let moto = moto();
    let mut agent = Agent::new();
    let directory = agent.scratch().path().to_owned();
    let provider = Provider::start(&moto, &directory, 3600);
    agent.schema(readings::SCHEMA).configure("alias", &provider.settings(&moto, &directory, "wrong"));
    agent.start();
    readings::post(&mut agent.client(), "kept", 1).expect("post a row");
    eventually("the status says why", LIMIT, || {
        let error = sync_status(&agent)["lastError"].to_string();
        (error.contains("404") && error.contains("aws.credentials.roleAlias")).then_some(())
    });
    assert_eq!(provider.answers().first().map(String::as_str), Some("404 lamp"));
    agent.stop();
    agent.configure("alias", &provider.settings(&moto, &directory, "ioto-device"));
    agent.start();
    eventually("the row arrives", LIMIT, || readings::in_the_cloud(&moto).contains_key("kept").then_some(()));
}
