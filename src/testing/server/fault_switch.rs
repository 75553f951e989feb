//! The fault of one endpoint, and the number of requests to the endpoint.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::sync::watch;

/// The way in which an endpoint of a [`TestIssuer`](crate::testing::TestIssuer) fails.
///
/// ```
/// use tower_logto::testing::{Fault, TestIssuer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = TestIssuer::start().await?;
/// let validator = issuer.validator("https://shopping.api")?;
/// issuer.fault_jwks(Fault::Status(404, "not found".into()));
/// assert!(validator.warm_up().await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Responds as Logto does.
    #[default]
    None,
    /// Responds with 500 and `text/plain`, as Logto does if its database is unavailable.
    ServerError,
    /// Accepts the request and does not respond until the fault changes.
    Hang,
    /// Responds as Logto does, but only after this delay. The delay is in real time, regardless of
    /// the issuer's clock.
    Slow(Duration),
    /// Responds with this status and body. The content type is `application/json` if the body
    /// starts with `{`, otherwise `text/plain`.
    Status(u16, String),
    /// Sends this response, for example a redirect, a 429 with `Retry-After`, or a body with a
    /// wrong content type.
    Response(http::Response<String>),
}

/// Counts every request to one endpoint, and applies the endpoint's fault.
#[derive(Debug, Default)]
pub(crate) struct FaultSwitch {
    fault: watch::Sender<Fault>,
    requests: watch::Sender<u64>,
}

impl FaultSwitch {
    /// Counts the request and responds to it. `respond` creates the normal response, and is not
    /// called if a fault replaces that response.
    pub(crate) async fn apply(&self, respond: impl FnOnce() -> Response) -> Response {
        self.requests.send_modify(|requests| *requests += 1);
        let mut faults = self.fault.subscribe();
        loop {
            let fault = faults.borrow_and_update().clone();
            match fault {
                Fault::None => return respond(),
                Fault::Slow(duration) => {
                    tokio::time::sleep(duration).await;
                    return respond();
                }
                Fault::ServerError => return text(500, "Internal Server Error".into()),
                Fault::Status(status, body) => return text(status, body),
                Fault::Response(response) => return response.into_response(),
                // `changed` cannot fail, because `self` owns the sender.
                Fault::Hang => drop(faults.changed().await),
            }
        }
    }

    pub(crate) fn set(&self, fault: Fault) {
        if let Fault::Status(code, _) = fault {
            // If the status code is invalid, `status` panics here. A later panic on the server's
            // thread would only close the connection, and would not fail the test.
            status(code);
        }
        self.fault.send_replace(fault);
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> u64 {
        *self.requests.borrow()
    }

    /// Waits until the endpoint has received at least this number of requests.
    pub(crate) async fn wait_for_requests(&self, count: u64) {
        let mut requests = self.requests.subscribe();
        requests.wait_for(|requests| *requests >= count).await.expect("self owns the sender");
    }
}

fn text(code: u16, body: String) -> Response {
    let content_type =
        if body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    (status(code), [(CONTENT_TYPE, content_type)], body).into_response()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code)
        .unwrap_or_else(|_| panic!("Fault::Status({code}, …): expected a code from 100 to 999"))
}
