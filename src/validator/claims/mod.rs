//! Parses the payload of a token once, and validates the claims in one pure function.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess},
};

use crate::{
    algorithm::Algorithm,
    error::InvalidToken,
    issuer::{LOGTO_AUDIENCES, ORGANIZATION_AUDIENCE},
    json::{self, MemberVisitor, OneOrMany, Text},
    scope::TokenKind,
    validator::{
        lifetime::Lifetime,
        token_claims::{Audiences, Span, TokenClaims},
    },
};

/// The unverified values of the claims that the validator checks or keeps for handlers.
#[derive(Debug, Default)]
pub(crate) struct Payload<'a> {
    issuer: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    audiences: Option<OneOrMany<'a>>,
    client_id: Option<Cow<'a, str>>,
    organization_id: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    jwt_id: Option<Cow<'a, str>>,
    issued_at: Option<f64>,
    not_before: Option<f64>,
    expires_at: Option<f64>,
    has_cnf: bool,
    /// The name of the claim that is being parsed. If the claim has the wrong type, the error
    /// contains this name.
    current_claim: Option<&'static str>,
}

impl<'a> Payload<'a> {
    pub(crate) fn parse(json: &'a str) -> Result<Self, InvalidToken> {
        let mut payload = Self::default();
        let outcome =
            json::read_unique_members(json, &mut payload, "the payload is not a JSON object");
        match payload.current_claim {
            Some(claim) if outcome.is_err() => Err(InvalidToken::MalformedClaim(claim)),
            _ => outcome.map(|()| payload),
        }
    }

    /// Returns the unverified `iss`.
    pub(crate) fn issuer(&self) -> Result<&str, InvalidToken> {
        self.issuer.as_deref().ok_or(InvalidToken::MissingClaim("iss"))
    }

    /// Returns the unverified audiences. The iterator is empty if the claim is missing.
    pub(crate) fn audiences(&self) -> impl Iterator<Item = &str> {
        self.audiences.iter().flat_map(OneOrMany::iter)
    }

    pub(crate) fn organization_id(&self) -> Option<&str> {
        self.organization_id.as_deref()
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    pub(crate) fn is_machine(&self) -> bool {
        self.subject.is_some() && self.subject == self.client_id
    }

    /// Returns the Logto permission model of the token, and the token's organization.
    pub(crate) fn kind(
        &self,
        rules: &ClaimRules,
    ) -> Result<(TokenKind, Option<&str>), InvalidToken> {
        let audiences = self.audiences.as_ref().ok_or(InvalidToken::MissingClaim("aud"))?;
        permission_model(audiences, self.organization_id(), rules)
    }

    pub(crate) fn subject(&self) -> Result<&str, InvalidToken> {
        let subject = self.subject.as_deref().filter(|subject| !subject.is_empty());
        subject.ok_or(InvalidToken::MissingClaim("sub"))
    }

    /// Refuses a token that is bound to a key of its holder (RFC 7800 §3.1).
    pub(crate) const fn check_bearer(&self) -> Result<(), InvalidToken> {
        if self.has_cnf { Err(InvalidToken::SenderConstrained) } else { Ok(()) }
    }

    /// Returns `exp`, rounded down to whole seconds, and `nbf`, rounded up to whole seconds.
    pub(crate) fn lifetime(&self, tolerance: Duration) -> Result<Lifetime, InvalidToken> {
        let exp = self.expires_at.ok_or(InvalidToken::MissingClaim("exp"))?;
        Ok(Lifetime {
            expires_at: numeric_date(exp.floor(), "exp")?,
            not_before: numeric_date(self.not_before.map_or(0.0, f64::ceil), "nbf")?,
            tolerance: tolerance.as_secs(),
        })
    }

    /// Returns `iat`, rounded down to whole seconds.
    pub(crate) fn issued_at(&self) -> Result<Option<u64>, InvalidToken> {
        self.issued_at.map(|at| numeric_date(at.floor(), "iat")).transpose()
    }

    fn read<T: Deserialize<'a>, A: MapAccess<'a>>(
        &mut self,
        claim: &'static str,
        value: &mut A,
    ) -> Result<Option<T>, A::Error> {
        self.current_claim = Some(claim);
        let read = value.next_value()?;
        self.current_claim = None;
        Ok(Some(read))
    }

    fn text<A: MapAccess<'a>>(
        &mut self,
        claim: &'static str,
        value: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        Ok(self.read::<Text<'a>, A>(claim, value)?.map(|text| text.0))
    }
}

impl<'de> MemberVisitor<'de> for Payload<'de> {
    fn visit<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        // A match on bytes compiles to one comparison per byte. A match on strings would call
        // `memcmp` for each arm.
        match name.as_bytes() {
            b"iss" => self.issuer = self.text("iss", value)?,
            b"sub" => self.subject = self.text("sub", value)?,
            b"aud" => self.audiences = self.read("aud", value)?,
            b"exp" => self.expires_at = self.read("exp", value)?,
            b"nbf" => self.not_before = self.read("nbf", value)?,
            b"iat" => self.issued_at = self.read("iat", value)?,
            b"jti" => self.jwt_id = self.text("jti", value)?,
            b"scope" => self.scope = self.text("scope", value)?,
            b"client_id" => self.client_id = self.text("client_id", value)?,
            b"organization_id" => self.organization_id = self.text("organization_id", value)?,
            _ => {
                self.has_cnf |= name == "cnf";
                value.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The rules for the claims of one issuer's tokens.
#[derive(Debug)]
pub(crate) struct ClaimRules {
    pub(crate) issuer: Box<str>,
    pub(crate) audiences: Arc<[Box<str>]>,
    pub(crate) organizations: bool,
    pub(crate) organization_tokens_only: bool,
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) clock_tolerance: Duration,
}

/// Validated claims. All required claims are present.
#[derive(Debug)]
pub(crate) struct ValidatedClaims<'a> {
    payload: &'a Payload<'a>,
    issuer: &'a str,
    subject: &'a str,
    audiences: &'a OneOrMany<'a>,
    kind: TokenKind,
    organization_id: Option<&'a str>,
    issued_at: Option<u64>,
    lifetime: Lifetime,
}

/// Validates the claims of a token against the rules of its issuer (RFC 9068 §4): audience, subject
/// and lifetime.
pub(crate) fn validate<'a>(
    payload: &'a Payload<'a>,
    rules: &ClaimRules,
    now: Duration,
) -> Result<ValidatedClaims<'a>, InvalidToken> {
    let issuer = payload.issuer()?;
    let audiences = payload.audiences.as_ref().ok_or(InvalidToken::MissingClaim("aud"))?;
    let (kind, organization_id) = payload.kind(rules)?;
    let subject = payload.subject()?;
    payload.check_bearer()?;
    let lifetime = payload.lifetime(rules.clock_tolerance)?;
    lifetime.check(now)?;
    let issued_at = payload.issued_at()?;
    Ok(ValidatedClaims {
        payload,
        issuer,
        subject,
        audiences,
        kind,
        organization_id,
        issued_at,
        lifetime,
    })
}

/// Returns the token's Logto permission model and organization, which follow from `aud` and
/// `organization_id`.
fn permission_model<'a>(
    audiences: &'a OneOrMany<'a>,
    claim: Option<&'a str>,
    rules: &ClaimRules,
) -> Result<(TokenKind, Option<&'a str>), InvalidToken> {
    if claim == Some("") {
        return Err(InvalidToken::MalformedClaim("organization_id"));
    }
    let ours = |aud: &str| rules.audiences.iter().any(|expected| expected.as_ref() == aud);
    if audiences.iter().any(ours) {
        // The match refuses a token that has both an expected audience and an audience that starts
        // with `urn:logto:`. The second audience is an organization or Logto's reserved resource,
        // so the scopes of the token may be organization scopes. Logto grants all organization
        // scopes to any application that requests them for the reserved resource.
        return match claim {
            _ if audiences.iter().any(|aud| aud.starts_with(LOGTO_AUDIENCES)) => {
                Err(InvalidToken::AmbiguousAudience)
            }
            Some(_) => Ok((TokenKind::OrganizationResource, claim)),
            None if rules.organization_tokens_only => Err(InvalidToken::NoOrganization),
            None => Ok((TokenKind::Global, None)),
        };
    }
    let mut organizations = audiences.iter().map(organization_of_audience);
    match organizations.next().flatten() {
        Some(id) if rules.organizations => {
            let agree = organizations.all(|other| other == Some(id));
            if agree && claim.is_none_or(|claim| claim == id) {
                Ok((TokenKind::OrganizationPermissions, Some(id)))
            } else {
                Err(InvalidToken::AmbiguousAudience)
            }
        }
        _ => {
            let found = audiences.iter().next().unwrap_or_default();
            Err(InvalidToken::wrong_audience(found, &rules.audiences))
        }
    }
}

/// Returns the organization id in the `aud` of an organization permission token.
fn organization_of_audience(audience: &str) -> Option<&str> {
    audience.strip_prefix(ORGANIZATION_AUDIENCE).filter(|id| !id.is_empty())
}

/// Converts whole seconds since the Unix epoch to an integer. Refuses times before 1970 and after
/// the year 9999.
fn numeric_date(seconds: f64, claim: &'static str) -> Result<u64, InvalidToken> {
    if !(0.0..=MAX_NUMERIC_DATE).contains(&seconds) {
        return Err(InvalidToken::MalformedClaim(claim));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`seconds` is a whole number, and the check above ensures that it fits in a `u64`"
    )]
    Ok(seconds as u64)
}

impl ValidatedClaims<'_> {
    pub(crate) const fn subject(&self) -> &str {
        self.subject
    }

    /// Copies the payload, and finds the span of each claim in the copy.
    pub(crate) fn to_token_claims(&self, json: &str) -> TokenClaims {
        let mut spans = SpanFinder { json, unescaped: String::new() };
        let issuer = spans.find(self.issuer);
        let subject = spans.find(self.subject);
        let audiences = match self.audiences {
            OneOrMany::One(one) => Audiences::One(spans.find(one)),
            OneOrMany::Many(many) => {
                Audiences::Several(many.iter().map(|one| spans.find(one)).collect())
            }
        };
        let Payload { client_id, scope, jwt_id, .. } = self.payload;
        let mut optional = |claim: Option<&str>| claim.map(|text| spans.find(text));
        TokenClaims {
            payload: Span::new(0..json.len()),
            issuer,
            subject,
            audiences,
            client_id: optional(client_id.as_deref()),
            organization_id: optional(self.organization_id),
            scope: optional(scope.as_deref()),
            jwt_id: optional(jwt_id.as_deref()),
            kind: self.kind,
            issued_at: self.issued_at,
            lifetime: self.lifetime,
            text: spans.into_text(),
        }
    }
}

/// Finds the span of each claim. If a claim has no escapes, its text is a slice of the JSON, and
/// the span is the position of that slice. If a claim has escapes, its unescaped text is appended
/// to the JSON.
struct SpanFinder<'a> {
    json: &'a str,
    unescaped: String,
}

impl SpanFinder<'_> {
    fn find(&mut self, text: &str) -> Span {
        let distance = (text.as_ptr() as usize).wrapping_sub(self.json.as_ptr() as usize);
        let borrowed = self.json.get(distance..distance.wrapping_add(text.len()));
        let start = if borrowed == Some(text) {
            distance
        } else {
            self.unescaped.push_str(text);
            self.json.len() + self.unescaped.len() - text.len()
        };
        Span::new(start..start + text.len())
    }

    fn into_text(self) -> Box<str> {
        if self.unescaped.is_empty() {
            self.json.into()
        } else {
            (self.json.to_owned() + &self.unescaped).into()
        }
    }
}

/// The last second of the year 9999.
const MAX_NUMERIC_DATE: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests;
