//! Conversions of this crate's errors into tonic's `Status`, with the feature `tonic`.

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::error::AuthError;

/// Converts an `AuthError` from a handler into a status with a code and a message. The status's
/// metadata contains the challenge and `retry-after`.
///
/// The conversion logs the refusal. The layers log refusals in the same way.
///
/// ```
/// use tonic::{Request, Response, Status};
/// use tower_logto::{AccessToken, AuthError};
///
/// async fn delete(request: Request<()>) -> Result<Response<()>, Status> {
///     let token = request.extensions().get::<AccessToken>().ok_or_else(AuthError::missing_token)?;
///     token.require_scopes(["delete:products"])?;
///     Ok(Response::new(()))
/// }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        error.log::<()>(None);
        let mut metadata = MetadataMap::new();
        if let Some(challenge) = error.challenge() {
            // Every header value is a valid metadata value, so the conversion cannot fail.
            if let Ok(challenge) = MetadataValue::try_from(challenge.as_bytes()) {
                metadata.insert(WWW_AUTHENTICATE.as_str(), challenge);
            }
        }
        if let Some(retry_after) = error.retry_after() {
            metadata.insert(RETRY_AFTER.as_str(), MetadataValue::from(retry_after.as_secs()));
        }
        let code = Code::from_i32(error.grpc_status().into());
        Self::with_metadata(code, error.grpc_message(), metadata)
    }
}

/// Converts the error into a status. The outgoing call that needed the token fails with this
/// status. The code of the status is:
/// - UNAVAILABLE if a retry may help
/// - PERMISSION_DENIED if the application lacks a permission in Logto
/// - INTERNAL if the token request is invalid, or if there is no tokio runtime
/// - UNAUTHENTICATED otherwise
///
/// The message has no details, because a handler may return the status to its own caller. The
/// [`source`](std::error::Error::source) of the status is the `TokenRequestError`.
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(all(feature = "client", feature = "tonic"))))]
impl From<crate::m2m::TokenRequestError> for Status {
    fn from(error: crate::m2m::TokenRequestError) -> Self {
        use crate::m2m::TokenRequestErrorKind as Kind;

        let (code, message) = match error.kind() {
            _ if error.is_retryable() => {
                (Code::Unavailable, "the access token for this call is unavailable")
            }
            Kind::NotSent => (Code::Internal, "the token for this call cannot be requested"),
            Kind::MissingScopes => (Code::PermissionDenied, NO_PERMISSION),
            Kind::Refused if error.code() == Some("access_denied") => {
                (Code::PermissionDenied, NO_PERMISSION)
            }
            _ => (Code::Unauthenticated, "the access token for this call was refused"),
        };
        let mut status = Self::new(code, message);
        status.set_source(std::sync::Arc::new(error));
        status
    }
}

#[cfg(feature = "client")]
const NO_PERMISSION: &str = "the application lacks a permission for this call";
