//! What a layer answers: the inner service's response, or a refusal.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Response, header::CONTENT_TYPE};
use pin_project_lite::pin_project;

use crate::error::AuthError;

pin_project! {
    /// The response future of this crate's services.
    #[project = Projected]
    pub enum ResponseFuture<F, B, E> {
        #[doc(hidden)]
        Inner { #[pin] future: F },
        #[doc(hidden)]
        Refused { response: Option<Response<B>> },
        /// Keys have to be fetched before anything can be said.
        #[doc(hidden)]
        Deferred { future: Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>> },
    }
}

impl<F, B: Default, E> ResponseFuture<F, B, E> {
    pub(crate) fn refused(error: AuthError, request: &HeaderMap) -> Self {
        Self::Refused { response: Some(refusal(error, is_grpc(request))) }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
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
        f.write_str(match self {
            Self::Inner { .. } => "ResponseFuture::Inner",
            Self::Refused { .. } => "ResponseFuture::Refused",
            Self::Deferred { .. } => "ResponseFuture::Deferred",
        })
    }
}

/// The refusal in the protocol of the request: HTTP, or gRPC over it.
pub(crate) fn refusal<B: Default>(error: AuthError, grpc: bool) -> Response<B> {
    if grpc { error.grpc_response() } else { error.response() }
}

pub(crate) fn is_grpc(request: &HeaderMap) -> bool {
    let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    request.get(CONTENT_TYPE).is_some_and(is_grpc)
}
