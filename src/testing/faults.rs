//! What can go wrong with an identity server, on demand.

use std::{sync::atomic::Ordering, time::Duration};

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::sync::watch;

use super::TestIssuer;

/// How an endpoint of a [`TestIssuer`] answers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// 500 `text/plain`: Logto when its database is out.
    ServerError,
    /// Takes the request and does not answer before the fault changes.
    Hang,
    /// As it should, but so much later, in real time.
    Slow(Duration),
    /// This status with this body, as JSON if it looks like an object.
    Status(u16, String),
    /// Any answer at all: a redirect, a 429 with its `Retry-After`, a wrong content type.
    Response(http::Response<String>),
}

/// One endpoint: its present fault, and how often it was asked.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    fault: watch::Sender<Fault>,
    requests: watch::Sender<u64>,
}

impl Endpoint {
    /// Counts the request and answers it, unless the fault says otherwise.
    pub(super) async fn answer(&self, honestly: impl FnOnce() -> Response) -> Response {
        self.requests.send_modify(|requests| *requests += 1);
        let mut faults = self.fault.subscribe();
        loop {
            let fault = faults.borrow_and_update().clone();
            match fault {
                Fault::None => return honestly(),
                Fault::Slow(duration) => {
                    tokio::time::sleep(duration).await;
                    return honestly();
                }
                Fault::ServerError => return text(500, "Internal Server Error".into()),
                Fault::Status(status, body) => return text(status, body),
                Fault::Response(response) => return response.into_response(),
                // An error would mean that the issuer is gone, and this task with it.
                Fault::Hang => drop(faults.changed().await),
            }
        }
    }

    fn set(&self, fault: Fault) {
        if let Fault::Status(code, _) = fault {
            // Here it fails the test, on the server's thread it would only cut the connection.
            status(code);
        }
        self.fault.send_replace(fault);
    }

    fn requests(&self) -> u64 {
        *self.requests.borrow()
    }

    async fn requested(&self, times: u64) {
        let mut requests = self.requests.subscribe();
        requests.wait_for(|requests| *requests >= times).await.expect("the issuer is there");
    }
}

fn text(code: u16, body: String) -> Response {
    let content_type =
        if body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    (status(code), [(CONTENT_TYPE, content_type)], body).into_response()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status from 100 to 999")
}

impl TestIssuer {
    /// Every endpoint answers 500 `text/plain`, as Logto does when its database is out; until
    /// [`recover`](Self::recover).
    pub fn go_down(&self) {
        self.fault_all(&Fault::ServerError);
    }

    /// Takes requests and does not answer them until [`recover`](Self::recover), which answers the
    /// waiting ones too.
    pub fn hang(&self) {
        self.fault_all(&Fault::Hang);
    }

    /// Answers so much later, in real time; until [`recover`](Self::recover).
    pub fn slow(&self, duration: Duration) {
        self.fault_all(&Fault::Slow(duration));
    }

    /// A fault of the key set alone.
    ///
    /// ```
    /// use tower_logto::testing::{Fault, TestIssuer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let issuer = TestIssuer::start().await?;
    /// let validator = issuer.validator("https://shopping.api")?;
    /// issuer.fault_jwks(Fault::Status(404, "no such tenant".into()));
    /// let refusal = validator.validate(&issuer.token().build()).await.unwrap_err();
    /// assert_eq!(refusal.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the status of a [`Fault::Status`] is none.
    pub fn fault_jwks(&self, fault: Fault) {
        self.state().jwks.set(fault);
    }

    /// A fault of the token endpoint alone.
    ///
    /// # Panics
    /// When the status of a [`Fault::Status`] is none.
    pub fn fault_token(&self, fault: Fault) {
        self.state().token.set(fault);
    }

    /// Ends every fault and a [published](Self::publish) key set; a [stopped](Self::stop) server
    /// stays stopped.
    pub fn recover(&self) {
        self.fault_all(&Fault::None);
        self.state().keys().published = None;
    }

    /// Closes the port and all connections: who connects is refused. The port stays reserved for
    /// [`start_again`](Self::start_again).
    ///
    /// # Panics
    /// When the port cannot be kept.
    pub fn stop(&self) {
        self.server().close().expect("the port is kept");
    }

    /// Opens the same port again after [`stop`](Self::stop).
    ///
    /// # Panics
    /// When the port cannot be opened.
    pub fn start_again(&self) {
        self.open().expect("the port is opened again");
    }

    /// How often the key set was asked for.
    #[must_use]
    pub fn jwks_requests(&self) -> u64 {
        self.state().jwks.requests()
    }

    /// How often the token endpoint was asked.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        self.state().token.requests()
    }

    /// How many answers were 304.
    #[must_use]
    pub fn not_modified(&self) -> u64 {
        self.state().not_modified.load(Ordering::Relaxed)
    }

    /// Waits until the key set was asked for so many times since the start: with
    /// [`hang`](Self::hang), the way to a state in which a request is under way.
    pub async fn jwks_requested(&self, times: u64) {
        self.state().jwks.requested(times).await;
    }

    /// Waits until the token endpoint was asked so many times since the start.
    pub async fn token_requested(&self, times: u64) {
        self.state().token.requested(times).await;
    }

    fn fault_all(&self, fault: &Fault) {
        let state = self.state();
        for endpoint in [&state.discovery, &state.jwks, &state.token, &state.management] {
            endpoint.set(fault.clone());
        }
    }
}
