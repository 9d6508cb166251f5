//! What a request carries from its first exchange to the end of its response.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smol::future::FutureExt;

use super::meter::Meter;
use super::{Error, Stage};
use crate::net::{Alarm, Deadline};

/// The time that a request as a whole may take, and how far it has come.
#[derive(Default)]
pub(super) struct Course {
    total: Option<(Duration, Instant)>,
    pub meter: Meter,
}

impl Course {
    /// Runs from now; no time: unlimited.
    pub fn new(total: Option<Duration>, meter: Meter) -> Self {
        Self { total: total.map(|after| (after, Instant::now() + after)), meter }
    }

    /// Waits with the alarm of a connection for whatever is over first: `stage`, which has run since `since` and may take
    /// `after`, or all of it.
    pub fn poll(
        &self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        stage: Option<(Stage, Instant, Duration)>,
        host: &str,
    ) -> Poll<Error> {
        let stage = stage.map(|(stage, since, after)| (stage, since + after, after));
        let total = self.total.map(|(after, at)| (Stage::Total, at, after));
        let Some((stage, at, after)) = stage.into_iter().chain(total).min_by_key(|(_, at, _)| *at) else {
            return Poll::Pending;
        };
        alarm.poll(cx, at).map(|()| Error::Timeout { host: host.into(), stage, after })
    }

    /// Runs something that has no connection yet, as long as the whole may take.
    pub async fn bound<T>(&self, host: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some((after, at)) = self.total else { return work.await };
        let too_late = async {
            Deadline::at(at).await;
            Err(Error::Timeout { host: host.into(), stage: Stage::Total, after })
        };
        work.or(too_late).await
    }

    /// An error when the time is over, for what never has to wait.
    pub fn check(&self, host: &str) -> Result<(), Error> {
        match self.total {
            Some((after, at)) if Instant::now() >= at => {
                Err(Error::Timeout { host: host.into(), stage: Stage::Total, after })
            }
            _ => Ok(()),
        }
    }

    /// When the time is over.
    pub fn ends(&self) -> Option<Instant> {
        self.total.map(|(_, at)| at)
    }
}
