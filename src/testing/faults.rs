//! Outages of the issuer, faults of its endpoints, and the number of requests to each endpoint.

use std::{sync::atomic::Ordering, time::Duration};

use crate::testing::{issuer::TestIssuer, server::fault_switch::Fault};

/// # Outages and faults
impl TestIssuer {
    /// Makes every endpoint respond with 500 and `text/plain`. Logto sends the same response if its
    /// database is unavailable.
    ///
    /// Call [`recover`](Self::recover) to end the outage.
    pub fn go_down(&self) {
        self.fault_all(&Fault::ServerError);
    }

    /// Makes every endpoint accept requests without responding to them.
    ///
    /// Call [`recover`](Self::recover) to end this fault. The issuer then also responds to the
    /// requests that are waiting.
    pub fn hang(&self) {
        self.fault_all(&Fault::Hang);
    }

    /// Makes every endpoint respond only after this delay. The delay is in real time, regardless of
    /// the issuer's clock.
    ///
    /// Call [`recover`](Self::recover) to end this fault.
    pub fn slow(&self, duration: Duration) {
        self.fault_all(&Fault::Slow(duration));
    }

    /// Sets the fault of the JWKS endpoint. The other endpoints keep their faults.
    ///
    /// ```
    /// use tower_logto::testing::{Fault, TestIssuer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let issuer = TestIssuer::start().await?;
    /// let validator = issuer.validator("https://shopping.api")?;
    /// issuer.fault_jwks(Fault::Status(404, "no such tenant".into()));
    /// let error = validator.validate(&issuer.token().build()).await.unwrap_err();
    /// assert_eq!(error.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// Panics if the code of a [`Fault::Status`] is not from 100 to 999.
    pub fn fault_jwks(&self, fault: Fault) {
        self.state().faults.jwks.set(fault);
    }

    /// Sets the fault of the token endpoint. The other endpoints keep their faults.
    ///
    /// # Panics
    /// Panics if the code of a [`Fault::Status`] is not from 100 to 999.
    pub fn fault_token(&self, fault: Fault) {
        self.state().faults.token.set(fault);
    }

    /// Ends every fault. If [`publish`](Self::publish) was called, the JWKS endpoint serves the
    /// issuer's own key set again.
    ///
    /// A [stopped](Self::stop) server remains stopped.
    pub fn recover(&self) {
        self.fault_all(&Fault::None);
        self.state().keys().published = None;
    }

    /// Stops listening on the port and closes all connections. New connections are refused.
    ///
    /// The port stays reserved until [`start_again`](Self::start_again). A socket that asks for any
    /// free port therefore cannot get the issuer's port.
    ///
    /// # Panics
    /// Panics if the port cannot be reserved.
    pub fn stop(&self) {
        self.server().close().expect("the port of the test issuer can be bound again");
    }

    /// Listens on the same port again after [`stop`](Self::stop). Does nothing if the server is
    /// already listening.
    ///
    /// # Panics
    /// Panics if the server cannot listen on the port.
    pub fn start_again(&self) {
        self.open().expect("the port of the test issuer can be opened again");
    }

    /// Returns the number of requests to the JWKS endpoint since the issuer was created.
    pub fn jwks_requests(&self) -> u64 {
        self.state().faults.jwks.requests()
    }

    /// Returns the number of requests to the token endpoint since the issuer was created.
    pub fn token_requests(&self) -> u64 {
        self.state().faults.token.requests()
    }

    /// Returns how many responses of the JWKS endpoint had status 304.
    pub fn not_modified(&self) -> u64 {
        self.state().not_modified.load(Ordering::Relaxed)
    }

    /// Waits until the JWKS endpoint has received at least `count` requests since the issuer was
    /// created.
    ///
    /// To test your service while a request is in flight, call [`hang`](Self::hang) before the
    /// service sends the request.
    pub async fn jwks_requested(&self, count: u64) {
        self.state().faults.jwks.wait_for_requests(count).await;
    }

    /// Waits until the token endpoint has received at least `count` requests since the issuer was
    /// created.
    pub async fn token_requested(&self, count: u64) {
        self.state().faults.token.wait_for_requests(count).await;
    }

    fn fault_all(&self, fault: &Fault) {
        let faults = &self.state().faults;
        for switch in [&faults.discovery, &faults.jwks, &faults.token, &faults.management] {
            switch.set(fault.clone());
        }
    }
}
