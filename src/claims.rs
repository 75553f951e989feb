//! What a token says: its payload read once, and one pure function that judges it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess},
};

use crate::{
    algorithm::Algorithm,
    bearer::ChallengeSettings,
    issuer::ORGANIZATION_AUDIENCE,
    json::{self, Members, Strings, Text},
    reason::{Excerpt, InvalidToken},
    scope::TokenKind,
    token::{Audiences, Span, ValidClaims},
};

/// The payload's members that are judged or kept.
#[derive(Debug, Default)]
pub(crate) struct Payload<'a> {
    pub(crate) issuer: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    audiences: Option<Strings<'a>>,
    client_id: Option<Cow<'a, str>>,
    organization_id: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    jwt_id: Option<Cow<'a, str>>,
    issued_at: Option<f64>,
    not_before: Option<f64>,
    expires_at: Option<f64>,
    confirmation: bool,
    /// The claim being read, for the reason when its type is wrong.
    reading: Option<&'static str>,
}

impl<'a> Payload<'a> {
    pub(crate) fn parse(json: &'a str) -> Result<Self, InvalidToken> {
        let mut payload = Self::default();
        let outcome = json::read_object(json, &mut payload, "the payload is not a JSON object");
        match payload.reading {
            Some(claim) if outcome.is_err() => Err(InvalidToken::MalformedClaim(claim)),
            _ => outcome.map(|()| payload),
        }
    }

    fn read<T: Deserialize<'a>, A: MapAccess<'a>>(
        &mut self,
        claim: &'static str,
        value: &mut A,
    ) -> Result<Option<T>, A::Error> {
        self.reading = Some(claim);
        let read = value.next_value()?;
        self.reading = None;
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

impl<'de> Members<'de> for Payload<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "iss" => self.issuer = self.text("iss", value)?,
            "sub" => self.subject = self.text("sub", value)?,
            "aud" => self.audiences = self.read("aud", value)?,
            "exp" => self.expires_at = self.read("exp", value)?,
            "nbf" => self.not_before = self.read("nbf", value)?,
            "iat" => self.issued_at = self.read("iat", value)?,
            "jti" => self.jwt_id = self.text("jti", value)?,
            "scope" => self.scope = self.text("scope", value)?,
            "client_id" => self.client_id = self.text("client_id", value)?,
            "organization_id" => self.organization_id = self.text("organization_id", value)?,
            _ => {
                self.confirmation |= name == "cnf";
                value.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// What is accepted from one issuer.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: Box<str>,
    pub(crate) audiences: Arc<[Box<str>]>,
    pub(crate) organizations: bool,
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) clock_tolerance: Duration,
}

/// What the claims of an acceptable token amount to.
#[derive(Debug)]
pub(crate) struct Judged {
    kind: TokenKind,
    expires_at: u64,
    refused_from: u64,
    issued_at: Option<u64>,
}

/// Judges the claims of a token of this issuer (RFC 9068 §4): whom it is for, and when.
pub(crate) fn judge(
    payload: &Payload<'_>,
    rules: &Rules,
    now: Duration,
) -> Result<Judged, InvalidToken> {
    let kind = audience_kind(payload, rules)?;
    if payload.subject.as_deref().is_none_or(str::is_empty) {
        return Err(InvalidToken::MissingClaim("sub"));
    }
    if payload.confirmation {
        return Err(InvalidToken::SenderConstrained);
    }
    let tolerance = rules.clock_tolerance;
    let expires_at = payload.expires_at.ok_or(InvalidToken::MissingClaim("exp"))?;
    // A fraction is cut off `exp` and `iat`, and counts in full for `nbf`.
    let expires_at = numeric_date(expires_at.floor(), "exp")?;
    let refused_from = expires_at + tolerance.as_secs();
    if now.as_secs() >= refused_from {
        let ago = now.saturating_sub(Duration::from_secs(expires_at));
        return Err(InvalidToken::Expired { ago });
    }
    if let Some(not_before) = payload.not_before {
        let not_before = Duration::from_secs(numeric_date(not_before.ceil(), "nbf")?);
        if not_before > now.saturating_add(tolerance) {
            return Err(InvalidToken::NotYetValid { wait: not_before.saturating_sub(now) });
        }
    }
    let issued_at = payload.issued_at.map(|at| numeric_date(at.floor(), "iat")).transpose()?;
    Ok(Judged { kind, expires_at, refused_from, issued_at })
}

/// Finds the permission model of Logto's that the audiences and `organization_id` speak of.
fn audience_kind(payload: &Payload<'_>, rules: &Rules) -> Result<TokenKind, InvalidToken> {
    let audiences = payload.audiences.as_ref().ok_or(InvalidToken::MissingClaim("aud"))?;
    let claim = payload.organization_id.as_deref();
    if claim == Some("") {
        return Err(InvalidToken::MalformedClaim("organization_id"));
    }
    let ours = |aud: &str| rules.audiences.iter().any(|expected| expected.as_ref() == aud);
    if audiences.iter().any(ours) {
        // `urn:logto:` beside a resource: an organization, or the reserved resource that gives any
        // app every organization scope.
        return match claim {
            _ if audiences.iter().any(|aud| aud.starts_with("urn:logto:")) => {
                Err(InvalidToken::AmbiguousAudience)
            }
            Some(_) => Ok(TokenKind::OrganizationResource),
            None => Ok(TokenKind::Global),
        };
    }
    let mut organizations = audiences.iter().map(organization_of_audience);
    match organizations.next().flatten() {
        Some(id) if rules.organizations => {
            let agree = organizations.all(|other| other == Some(id));
            if agree && claim.is_none_or(|claim| claim == id) {
                Ok(TokenKind::OrganizationPermissions)
            } else {
                Err(InvalidToken::AmbiguousAudience)
            }
        }
        _ => Err(InvalidToken::Audience {
            found: Excerpt::new(audiences.iter().next().unwrap_or_default()),
            expected: Arc::clone(&rules.audiences),
        }),
    }
}

/// The organization of an organization permission token's `aud`.
fn organization_of_audience(audience: &str) -> Option<&str> {
    audience.strip_prefix(ORGANIZATION_AUDIENCE).filter(|id| !id.is_empty())
}

/// Whole seconds since the epoch; absurd values are refused, not converted.
fn numeric_date(seconds: f64, claim: &'static str) -> Result<u64, InvalidToken> {
    if !(0.0..=MAX_NUMERIC_DATE).contains(&seconds) {
        return Err(InvalidToken::MalformedClaim(claim));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the line above leaves whole numbers that fit"
    )]
    Ok(seconds as u64)
}

/// Keeps what was judged: the payload's text, and where each claim stands in it.
pub(crate) fn keep(
    json: &str,
    payload: &Payload<'_>,
    judged: &Judged,
    challenge: Option<Arc<ChallengeSettings>>,
) -> Result<ValidClaims, InvalidToken> {
    let mut keeper = Keeper { json, unescaped: String::new() };
    let (issuer, subject) = (payload.issuer.as_ref(), payload.subject.as_ref());
    let issuer = keeper.span(issuer.ok_or(InvalidToken::MissingClaim("iss"))?);
    let subject = keeper.span(subject.ok_or(InvalidToken::MissingClaim("sub"))?);
    let audiences = match payload.audiences.as_ref() {
        Some(Strings::One(one)) => Audiences::One(keeper.span(one)),
        Some(Strings::Several(several)) => {
            Audiences::Several(several.iter().map(|one| keeper.span(one)).collect())
        }
        None => return Err(InvalidToken::MissingClaim("aud")),
    };
    let mut optional = |claim: &Option<Cow<'_, str>>| claim.as_ref().map(|text| keeper.span(text));
    let client_id = optional(&payload.client_id);
    let scope = optional(&payload.scope);
    let jwt_id = optional(&payload.jwt_id);
    let organization_id = match judged.kind {
        TokenKind::OrganizationPermissions => payload
            .audiences
            .iter()
            .flat_map(Strings::iter)
            .find_map(organization_of_audience)
            .map(|id| keeper.span(id)),
        _ => optional(&payload.organization_id),
    };
    let payload = Span { start: 0, end: offset(json.len()) };
    Ok(ValidClaims {
        payload,
        issuer,
        subject,
        audiences,
        client_id,
        organization_id,
        scope,
        jwt_id,
        kind: judged.kind,
        issued_at: judged.issued_at,
        expires_at: judged.expires_at,
        refused_from: judged.refused_from,
        challenge,
        text: keeper.into_text(),
    })
}

/// Finds texts in the JSON they were borrowed from; those that were not (escapes) it appends.
struct Keeper<'a> {
    json: &'a str,
    unescaped: String,
}

impl Keeper<'_> {
    fn span(&mut self, text: &str) -> Span {
        let distance = (text.as_ptr() as usize).wrapping_sub(self.json.as_ptr() as usize);
        let borrowed = self.json.get(distance..distance.wrapping_add(text.len()));
        let start = if borrowed == Some(text) {
            distance
        } else {
            self.unescaped.push_str(text);
            self.json.len() + self.unescaped.len() - text.len()
        };
        Span { start: offset(start), end: offset(start + text.len()) }
    }

    fn into_text(self) -> Box<str> {
        if self.unescaped.is_empty() {
            self.json.into()
        } else {
            (self.json.to_owned() + &self.unescaped).into()
        }
    }
}

/// Tokens are far shorter than 4 GiB; a longer one would be cut, and its claims read as empty.
fn offset(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
/// The last second of the year 9999.
const MAX_NUMERIC_DATE: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn rules(organizations: bool) -> Rules {
        Rules {
            issuer: "https://t/oidc".into(),
            audiences: Arc::from(["https://shopping.api".into(), "https://other.api".into()]),
            organizations,
            algorithms: Algorithm::LOGTO.into(),
            clock_tolerance: Duration::from_secs(30),
        }
    }

    fn judged(json: &str, organizations: bool) -> Result<ValidClaims, InvalidToken> {
        let payload = Payload::parse(json)?;
        let judged = judge(&payload, &rules(organizations), NOW)?;
        keep(json, &payload, &judged, None)
    }

    /// A good payload with some members in place of the usual ones; `null` in Rust's sense leaves
    /// one out.
    fn payload(changes: &[(&str, Option<&str>)]) -> String {
        let mut members = vec![
            ("iss", "\"https://t/oidc\""),
            ("sub", "\"alice\""),
            ("aud", "\"https://shopping.api\""),
            ("exp", "1000100"),
        ];
        for (name, value) in changes {
            members.retain(|(member, _)| member != name);
            members.extend(value.map(|value| (*name, value)));
        }
        let members = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
    #[test]
    fn claims_are_judged_by_rfc_9068_section_4() {
        use InvalidToken::{MalformedClaim, Members, MissingClaim, SenderConstrained};
        judged(&payload(&[]), false).unwrap();
        for (changes, reason) in [
            (&[("iss", Some("7"))][..], MalformedClaim("iss")),
            (&[("iss", Some("[\"https://t/oidc\"]"))], MalformedClaim("iss")),
            (&[("sub", None)], MissingClaim("sub")),
            (&[("sub", Some("\"\""))], MissingClaim("sub")),
            (&[("sub", Some("null"))], MalformedClaim("sub")),
            (&[("aud", None)], MissingClaim("aud")),
            (&[("aud", Some("null"))], MalformedClaim("aud")),
            (&[("aud", Some("[1]"))], MalformedClaim("aud")),
            (&[("aud", Some("[[\"https://shopping.api\"]]"))], MalformedClaim("aud")),
            (&[("aud", Some("{\"x\":\"https://shopping.api\"}"))], MalformedClaim("aud")),
            (&[("scope", Some("[\"a\"]"))], MalformedClaim("scope")),
            (&[("scope", Some("null"))], MalformedClaim("scope")),
            (&[("client_id", Some("1"))], MalformedClaim("client_id")),
            (&[("organization_id", Some("null"))], MalformedClaim("organization_id")),
            (&[("organization_id", Some("\"\""))], MalformedClaim("organization_id")),
            (&[("exp", None)], MissingClaim("exp")),
            (&[("exp", Some("\"1000100\""))], MalformedClaim("exp")),
            (&[("exp", Some("null"))], MalformedClaim("exp")),
            (&[("exp", Some("true"))], MalformedClaim("exp")),
            (&[("exp", Some("-1"))], MalformedClaim("exp")),
            (&[("exp", Some("1e300"))], MalformedClaim("exp")),
            (&[("exp", Some("1e400"))], MalformedClaim("exp")),
            (&[("exp", Some("NaN"))], MalformedClaim("exp")),
            (&[("exp", Some("253402300800"))], MalformedClaim("exp")),
            (&[("nbf", Some("-1"))], MalformedClaim("nbf")),
            (&[("iat", Some("1e300"))], MalformedClaim("iat")),
            (&[("cnf", Some("{}"))], SenderConstrained),
            (&[("cnf", Some("null"))], SenderConstrained),
            (&[("x\":1,\"x", Some("2"))], Members),
        ] {
            assert_eq!(judged(&payload(changes), false).unwrap_err(), reason, "{changes:?}");
        }
        let many = (0..70).map(|n| format!("\"m{n}\":1")).collect::<Vec<_>>().join(",");
        assert_eq!(judged(&format!("{{{many}}}"), false).unwrap_err(), Members);
        assert!(judged("[\"https://t/oidc\"]", false).is_err());
    }

    #[test]
    fn exp_and_nbf_have_a_tolerance_and_count_fractions_against_the_token() {
        for (claim, value, good) in [
            ("exp", "1000000", true),
            ("exp", "999971", true),
            ("exp", "999970", false),
            ("exp", "999970.9", false),
            ("exp", "999971.9", true),
            ("exp", "1000100.5", true),
            ("exp", "1.0001e6", true),
            ("exp", "0", false),
            ("nbf", "1", true),
            ("nbf", "1000030", true),
            ("nbf", "1000030.1", false),
            ("nbf", "1000031", false),
            ("iat", "9999999", true),
            ("iat", "5.5", true),
        ] {
            let outcome = judged(&payload(&[(claim, Some(value))]), false);
            assert_eq!(outcome.is_ok(), good, "{claim} = {value}: {outcome:?}");
        }
    }

    #[test]
    fn the_audience_decides_the_kind() {
        use TokenKind::{Global, OrganizationPermissions, OrganizationResource};
        let ours = "https://shopping.api";
        let refused = Err(());
        for (aud, claim, with_organizations, without) in [
            (&[ours][..], None, Ok(Global), Ok(Global)),
            (&[ours], Some("acme"), Ok(OrganizationResource), Ok(OrganizationResource)),
            (&["https://x", ours], None, Ok(Global), Ok(Global)),
            (&[ours, "https://other.api"], None, Ok(Global), Ok(Global)),
            (&["urn:logto:organization:acme"], None, Ok(OrganizationPermissions), refused),
            (&["urn:logto:organization:acme"], Some("acme"), Ok(OrganizationPermissions), refused),
            (&["urn:logto:organization:acme"], Some("evil"), refused, refused),
            (&["urn:logto:organization:"], None, refused, refused),
            (&["urn:logto:organization:a", "urn:logto:organization:b"], None, refused, refused),
            (&["urn:logto:organization:a", "https://x"], None, refused, refused),
            (&["https://x", "urn:logto:organization:a"], None, refused, refused),
            (&[ours, "urn:logto:organization:a"], None, refused, refused),
            (&["urn:logto:organization:a", ours], Some("a"), refused, refused),
            (&[ours, "urn:logto:organization:"], None, refused, refused),
            (&["urn:logto:resource:organizations"], None, refused, refused),
            (&[ours, "urn:logto:resource:organizations"], None, refused, refused),
            (&["https://shopping.api/"], None, refused, refused),
            (&["https://shopping.ap"], None, refused, refused),
            (&["https://shopping.api.evil"], None, refused, refused),
            (&["HTTPS://SHOPPING.API"], None, refused, refused),
            (&[""], None, refused, refused),
            (&[], None, refused, refused),
        ] {
            for (organizations, expected) in [(true, with_organizations), (false, without)] {
                let array = serde_json::to_string(aud).unwrap();
                let claim = claim.map(|claim| format!("\"{claim}\""));
                let mut changes = vec![("aud", Some(array.as_str()))];
                changes.extend(claim.as_deref().map(|claim| ("organization_id", Some(claim))));
                let kind = judged(&payload(&changes), organizations).map(|claims| claims.kind);
                assert_eq!(kind.map_err(drop), expected, "{aud:?}, {claim:?}, {organizations}");
            }
        }
    }

    #[test]
    fn escaped_claims_are_kept_unescaped() {
        let json = payload(&[
            ("sub", Some("\"\\u0061li\\u0063e\"")),
            ("aud", Some("[\"https:\\/\\/shopping.api\",\"https://x\"]")),
            ("client_id", Some("\"app\"")),
            ("scope", Some("\"a \\u0062\"")),
        ]);
        let token = crate::AccessToken::new(judged(&json, false).unwrap());
        assert_eq!(token.subject(), "alice");
        assert_eq!(token.client_id(), Some("app"));
        assert_eq!(token.audience().collect::<Vec<_>>(), ["https://shopping.api", "https://x"]);
        assert!(token.scopes().contains("b"));
        assert_eq!(token.claims::<serde_json::Value>().unwrap()["sub"], "alice");
    }

    proptest! {
        #[test]
        fn no_payload_panics(json in ".*") {
            let _ = judged(&json, true);
        }

        #[test]
        fn no_claim_of_any_type_panics(
            name in "iss|sub|aud|exp|nbf|iat|jti|scope|client_id|organization_id|cnf",
            value in "-?[0-9]{1,30}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?|\"\\PC*\"|\\[[0-9,]*\\]|null",
        ) {
            let _ = judged(&payload(&[(&name, Some(&value))]), true);
        }

        #[test]
        fn what_is_kept_is_what_was_said(sub in "\\PC{1,20}", scope in "[a-z:\\\\\"é ]{0,20}") {
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let json = payload(&[("sub", Some(&quoted(&sub))), ("scope", Some(&quoted(&scope)))]);
            let token = crate::AccessToken::new(judged(&json, false).unwrap());
            prop_assert_eq!(token.subject(), sub);
            prop_assert_eq!(token.scopes().as_str(), scope);
        }
    }
}
