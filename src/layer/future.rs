//! The response future of `AuthService` and `RequireService`. The output of the future is the inner
//! service's response, or a refusal.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;

use crate::error::{AuthError, response};

pin_project! {
    /// The response future of this crate's services.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        state: FutureState<F, B, E>,
    }
}

pin_project! {
    #[project = Projected]
    enum FutureState<F, B, E> {
        Inner { #[pin] future: F },
        Refused { response: Option<Response<B>> },
        // The request waits for a key, for a queued signature check, or for the first revocation
        // rules.
        Deferred { future: Deferred<B, E> },
    }
}

type Deferred<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) const fn inner(future: F) -> Self {
        Self { state: FutureState::Inner { future } }
    }

    pub(crate) const fn deferred(future: Deferred<B, E>) -> Self {
        Self { state: FutureState::Deferred { future } }
    }
}

impl<F, B: Default, E> ResponseFuture<F, B, E> {
    pub(crate) fn refused<R>(error: AuthError, request: &Request<R>) -> Self {
        let response = Some(response::refuse(error, request));
        Self { state: FutureState::Refused { response } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Inner { future } => future.poll(cx),
            Projected::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // The future was polled after completion. The contract of `Future` forbids this
                // poll.
                None => Poll::Pending,
            },
            Projected::Deferred { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
