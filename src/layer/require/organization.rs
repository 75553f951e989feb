//! Checks the organization of a token, usually by comparing it with the organization that the
//! request names.

use std::borrow::Cow;

use http::{HeaderName, request::Parts};

use crate::{
    access_token::AccessToken,
    error::{AuthError, InvalidRequest},
    layer::require::condition::Function,
};

type FindFn = dyn Fn(&Parts) -> Option<Cow<'_, str>> + Send + Sync;

#[derive(Debug, Clone)]
pub(super) enum Organization {
    #[cfg(feature = "axum")]
    InPath(&'static str),
    InHeader(HeaderName),
    By(Function<FindFn>),
    OfToken,
}

impl Organization {
    /// Checks that the token is for the organization that the request names. `OfToken` accepts a
    /// token for any organization. Marks the organization of the token as checked, and returns the
    /// token.
    pub(super) fn check(
        &self,
        token: &AccessToken,
        parts: &mut Parts,
    ) -> Result<AccessToken, AuthError> {
        let wrong_organization = || token.wrong_organization(None);
        match self {
            #[cfg(feature = "axum")]
            Self::InPath(parameter) => path::check(token, parameter, parts),
            Self::InHeader(name) => {
                let mut values = parts.headers.get_all(name).iter();
                match (values.next().map(|id| id.to_str()), values.next()) {
                    (Some(Ok(id)), None) => token.check_organization(id),
                    _ => Err(token.refuse(InvalidRequest::OrganizationHeader.into())),
                }
            }
            Self::By(find) => {
                let id = find.0(parts).ok_or_else(wrong_organization)?;
                token.check_organization(&id)
            }
            Self::OfToken => {
                let id = token.organization_id().ok_or_else(wrong_organization)?;
                token.check_organization(id)
            }
        }
    }
}

#[cfg(feature = "axum")]
mod path {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use axum::extract::{
        FromRequestParts, RawPathParams, rejection::RawPathParamsRejection::InvalidUtf8InPathParam,
    };

    use super::{AccessToken, AuthError, Parts};
    use crate::error::AuthErrorKind;

    /// Checks that every value of the path parameter is the id of the token's organization.
    pub(super) fn check(
        token: &AccessToken,
        parameter: &'static str,
        parts: &mut Parts,
    ) -> Result<AccessToken, AuthError> {
        let unknown = || token.refuse(AuthErrorKind::UnknownPathParameter(parameter));
        // axum reads the path parameters from the request's extensions. The future of
        // `from_request_parts` is therefore ready on the first poll.
        let extraction = pin!(RawPathParams::from_request_parts(parts, &()));
        let params = match extraction.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(params)) => params,
            Poll::Ready(Err(InvalidUtf8InPathParam(_))) => {
                return Err(token.wrong_organization(None));
            }
            Poll::Ready(Err(_)) | Poll::Pending => return Err(unknown()),
        };
        let named = params.iter().filter(|(name, _)| *name == parameter);
        let mut checked = None;
        for (_, id) in named {
            checked = Some(token.check_organization(id)?);
        }
        checked.ok_or_else(unknown)
    }
}
