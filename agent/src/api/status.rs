//! `GET /api/status`: how the agent and its services are.

use serde_json::Value;

use super::{Door, guard};
use crate::http1::Method;
use crate::web::{Action, Error, Exchange};

/// The action for `/api/status`. `snapshot` is asked for each request. For `door` see [`guard`].
pub fn status(snapshot: impl Fn() -> Value + Send + Sync + 'static, door: Door) -> impl Action {
    async move |exchange: &mut Exchange| {
        guard(exchange, door)?;
        if !exchange.rest().is_empty() {
            return Err(Error::status(404, "there is nothing here; the status is at /api/status"));
        }
        exchange.set_header("Cache-Control", "no-store")?;
        if !matches!(exchange.method(), Method::Get | Method::Head) {
            exchange.set_status(405);
            return exchange.set_header("Allow", "GET, HEAD");
        }
        exchange.send_json(&snapshot()).await
    }
}
