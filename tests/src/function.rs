//! The cloud's half of replication at work: agent/cloud/function.py between moto and a broker.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::{Mosquitto, Moto, python, repository};

/// `ci/function.py` as a process of its own, which ends with this value.
#[derive(Debug)]
pub struct Function {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Function {
    /// Has the function called with what is written to the table, and with what every thing publishes.
    pub fn start(moto: &Moto, broker: &Mosquitto) -> Self {
        Self::with(moto, broker, &["--stream"])
    }

    /// Starts it with more arguments, and waits until it listens.
    pub fn with(moto: &Moto, broker: &Mosquitto, arguments: &[&str]) -> Self {
        let mut child = python()
            .arg("-B")
            .arg(repository().join("ci/function.py"))
            .args(["-", "--stdin", "--broker", &broker.address().to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start function.py");
        let orders = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut function = Self { child, orders, said };
        function.order(&moto.line());
        function.hears("ready");
        function
    }

    /// From now on so many messages of 100 are lost, repeated or late.
    pub fn trouble(&mut self, percent: u8) {
        self.order(&format!("trouble {percent}"));
    }

    /// Ends that, and waits until nothing is under way any more.
    pub fn calm(&mut self) {
        self.order("calm");
        self.hears("calm");
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("tell function.py");
    }

    fn hears(&mut self, wanted: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("hear function.py");
        assert_eq!(line.trim_end(), wanted, "function.py ended, or says something else");
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Its own children end with it only if it ends by itself, as it does when it has no more orders to wait for.
        let _ = writeln!(self.orders, "end");
        let _ = self.child.wait();
    }
}
