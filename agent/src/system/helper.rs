//! Asking `ioto-helper`, the small root process, for what needs root.

use ioto_wire::{Answer, AskError, Client, Outcome, Request};
use std::fmt;

/// The way to the helper. Its calls wait on the pool of blocking threads, not on the executor.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    client: Client,
}

/// Why the helper did not do what was asked, in plain words.
#[derive(Debug)]
pub enum HelperError {
    /// It can not be reached, or does not answer.
    Silent(AskError),
    /// It answered that it did not do it.
    NotDone(Answer),
}

impl fmt::Display for HelperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(error) => error.fmt(f),
            Self::NotDone(answer) => match answer.outcome {
                Outcome::Refused => write!(f, "ioto-helper refuses: {}", answer.text),
                Outcome::Busy => write!(f, "ioto-helper is busy: {}", answer.text),
                Outcome::Done | Outcome::Failed => write!(f, "ioto-helper could not do it: {}", answer.text),
            },
        }
    }
}

impl std::error::Error for HelperError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Silent(error) => Some(error),
            Self::NotDone(_) => None,
        }
    }
}

impl Helper {
    /// By this client: at another socket than the fixed one, in tests.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks for something, and waits until it is done; what the helper says of it.
    ///
    /// A request that restarts the agent itself may end without an answer.
    pub async fn ask(&self, request: Request) -> Result<String, HelperError> {
        let client = self.client.clone();
        let answer = smol::unblock(move || client.ask(&request)).await.map_err(HelperError::Silent)?;
        match answer.outcome {
            Outcome::Done => Ok(answer.text),
            _ => Err(HelperError::NotDone(answer)),
        }
    }

    /// The helper's version, when it answers.
    pub async fn version(&self) -> Result<String, HelperError> {
        self.ask(Request::Ping).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn socket(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ioto-helper-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_helper_that_is_not_there_is_told_in_plain_words() {
        let helper = Helper::new(Client::at(socket("none")));
        let error = smol::block_on(helper.version()).unwrap_err().to_string();
        assert!(error.contains("can not be reached") && error.contains("is ioto-helper.socket enabled"), "{error}");
    }

    #[test]
    fn an_answer_comes_back_and_a_refusal_is_an_error() {
        let path = socket("some");
        let listener = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            for outcome in [Outcome::Done, Outcome::Refused] {
                let (mut stream, _) = listener.accept().unwrap();
                let request = Request::decode(&ioto_wire::read_frame(&mut stream).unwrap()).unwrap();
                let answer = Answer::new(outcome, request.verb().name());
                ioto_wire::write_frame(&mut stream, &answer.encode()).unwrap();
            }
        });
        let helper = Helper::new(Client::at(&path));
        assert_eq!(smol::block_on(helper.version()).unwrap(), "ping");
        let error = smol::block_on(helper.ask(Request::Reboot)).unwrap_err();
        assert_eq!(error.to_string(), "ioto-helper refuses: reboot");
        served.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
