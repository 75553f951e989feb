//! The stable label of each reason, for logs and metrics.

use crate::error::{
    AuthError, AuthErrorKind, FailedCondition, InvalidRequest, InvalidToken, KeysUnavailable,
};

impl AuthError {
    /// Returns a stable, machine-readable label of the reason, for logs and metrics.
    ///
    /// A label is not renamed or removed without a new major version. New labels may be added at
    /// any time. The labels are:
    ///
    /// | status | labels |
    /// |---|---|
    /// | 400 | `several_authorization_headers`, `malformed_credentials`, `organization_header` |
    /// | 401 | `missing_token`, `oversized`, `not_a_jwt`, `malformed`, `duplicate_member`, `algorithm_not_allowed`, `wrong_type`, `critical_header`, `untrusted_issuer`, `wrong_audience`, `ambiguous_audience`, `no_organization`, `missing_claim`, `malformed_claim`, `expired`, `not_yet_valid`, `sender_constrained`, `unknown_key`, `ambiguous_key`, `key_algorithm_mismatch`, `bad_signature`, `revoked`, `too_long_life` |
    /// | 403 | `insufficient_scope`, `wrong_organization`, `wrong_kind`, `not_a_machine`, `not_a_user`, `wrong_client`, `wrong_issuer_for_route`, `wrong_audience_for_route`, `custom_claims`, `forbidden` |
    /// | 429 | `too_many_unknown_keys` |
    /// | 500 | `missing_layer`, `unnamed_issuer`, `unnamed_audience`, `invalid_scope`, `unknown_path_parameter` |
    /// | 503 | `keys_unavailable`, `jwks_timeout`, `too_many_signature_checks`, `revocations_unavailable` |
    ///
    /// ```
    /// assert_eq!(tower_logto::AuthError::missing_token().reason(), "missing_token");
    /// ```
    pub const fn reason(&self) -> &'static str {
        match self.kind() {
            AuthErrorKind::MissingToken => "missing_token",
            AuthErrorKind::InvalidRequest(reason) => invalid_request(*reason),
            AuthErrorKind::InvalidToken(reason) => invalid_token(reason),
            AuthErrorKind::InsufficientScope { .. } => "insufficient_scope",
            AuthErrorKind::WrongOrganization { .. } => "wrong_organization",
            AuthErrorKind::WrongKind(_) => "wrong_kind",
            AuthErrorKind::FailedCondition(condition) => failed_condition(condition),
            AuthErrorKind::Forbidden(_) => "forbidden",
            AuthErrorKind::KeysUnavailable(KeysUnavailable { cause, .. }) => {
                if cause.is_timeout() {
                    "jwks_timeout"
                } else {
                    "keys_unavailable"
                }
            }
            AuthErrorKind::TooManyUnknownKeys { .. } => "too_many_unknown_keys",
            AuthErrorKind::TooManySignatureChecks { .. } => "too_many_signature_checks",
            AuthErrorKind::RevocationsUnavailable => "revocations_unavailable",
            AuthErrorKind::MissingLayer => "missing_layer",
            AuthErrorKind::UnnamedIssuer => "unnamed_issuer",
            AuthErrorKind::UnnamedAudience => "unnamed_audience",
            AuthErrorKind::InvalidScope { .. } => "invalid_scope",
            AuthErrorKind::UnknownPathParameter(_) => "unknown_path_parameter",
        }
    }
}

const fn invalid_request(reason: InvalidRequest) -> &'static str {
    match reason {
        InvalidRequest::SeveralAuthorizationHeaders => "several_authorization_headers",
        InvalidRequest::MalformedCredentials => "malformed_credentials",
        InvalidRequest::OrganizationHeader => "organization_header",
    }
}

const fn failed_condition(condition: &FailedCondition) -> &'static str {
    match condition {
        FailedCondition::Machine => "not_a_machine",
        FailedCondition::User => "not_a_user",
        FailedCondition::ClientId(_) => "wrong_client",
        FailedCondition::Issuer(_) => "wrong_issuer_for_route",
        FailedCondition::Audience(_) => "wrong_audience_for_route",
        FailedCondition::CustomClaims(_) => "custom_claims",
    }
}

const fn invalid_token(reason: &InvalidToken) -> &'static str {
    match reason {
        InvalidToken::Oversized => "oversized",
        InvalidToken::NotAJwt => "not_a_jwt",
        InvalidToken::Malformed(_) => "malformed",
        InvalidToken::DuplicateMember => "duplicate_member",
        InvalidToken::AlgorithmNotAllowed(_) => "algorithm_not_allowed",
        InvalidToken::WrongType(_) => "wrong_type",
        InvalidToken::CriticalHeader => "critical_header",
        InvalidToken::UntrustedIssuer(_) => "untrusted_issuer",
        InvalidToken::WrongAudience(_) => "wrong_audience",
        InvalidToken::AmbiguousAudience => "ambiguous_audience",
        InvalidToken::NoOrganization => "no_organization",
        InvalidToken::MissingClaim(_) => "missing_claim",
        InvalidToken::MalformedClaim(_) => "malformed_claim",
        InvalidToken::Expired { .. } => "expired",
        InvalidToken::NotYetValid { .. } => "not_yet_valid",
        InvalidToken::SenderConstrained => "sender_constrained",
        InvalidToken::UnknownKey(_) => "unknown_key",
        InvalidToken::AmbiguousKey => "ambiguous_key",
        InvalidToken::KeyAlgorithmMismatch(_) => "key_algorithm_mismatch",
        InvalidToken::BadSignature => "bad_signature",
        InvalidToken::Revoked => "revoked",
        InvalidToken::TooLongLife { .. } => "too_long_life",
    }
}
