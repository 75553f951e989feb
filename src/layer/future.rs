//! What a layer answers: the inner service's response, or a refusal.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, TE},
};
use pin_project_lite::pin_project;

use crate::error::AuthError;

pin_project! {
    /// The response future of this crate's services.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        answer: Answer<F, B, E>,
    }
}

pin_project! {
    #[project = Projected]
    enum Answer<F, B, E> {
        Inner { #[pin] future: F },
        Refused { response: Option<Response<B>> },
        // Keys have to be fetched before anything can be said.
        Deferred { future: Deferred<B, E> },
    }
}

type Deferred<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) const fn inner(future: F) -> Self {
        Self { answer: Answer::Inner { future } }
    }

    pub(crate) const fn deferred(future: Deferred<B, E>) -> Self {
        Self { answer: Answer::Deferred { future } }
    }
}

impl<F, B: Default, E> ResponseFuture<F, B, E> {
    pub(crate) fn refused<R>(error: AuthError, request: &Request<R>) -> Self {
        let response = Some(refusal(error, is_grpc(request)));
        Self { answer: Answer::Refused { response } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().answer.project() {
            Projected::Inner { future } => future.poll(cx),
            Projected::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // Polled again after it was ready, which the contract of Future forbids.
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

/// The refusal in the protocol of the request: HTTP, or gRPC over it.
pub(crate) fn refusal<B: Default>(error: AuthError, grpc: bool) -> Response<B> {
    if grpc { error.grpc_response() } else { error.response() }
}

/// Whether the caller speaks gRPC, and so finds the refusal in `grpc-status` behind a 200.
///
/// Strict, because the caller chooses these headers: to a proxy that asks this service whether to
/// let a request in (nginx, Traefik and Caddy do so with GET), a 200 means yes.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_grpc = |value: &HeaderValue| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    request.method() == Method::POST
        && headers.get(CONTENT_TYPE).is_some_and(is_grpc)
        && headers.get(TE).is_some_and(|te| te == "trailers")
}
