//! Any payload with a valid signature. The outcome must equal the outcome of an independent
//! implementation.

#![no_main]

use std::{collections::HashMap, fmt, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json, value::RawValue};
use tower_logto::{
    AccessToken, Algorithm, Issuer, TokenKind, TrustedIssuer, Validator,
    error::{AuthErrorKind, InvalidToken},
    testing::{ManualClock, SigningKey},
};
use tower_logto_fuzz::{AUDIENCE, ISSUER, NOW};

/// The default clock tolerance in seconds.
const TOLERANCE: f64 = 30.0;
const ORGANIZATION: &str = "urn:logto:organization:";

static SIGNER: LazyLock<(SigningKey, Validator)> = LazyLock::new(|| {
    let key = SigningKey::generate(Algorithm::ES256);
    let trusted = TrustedIssuer::new(&Issuer::new(ISSUER).unwrap())
        .audience(AUDIENCE)
        .organizations()
        .static_jwks(json!({ "keys": [key.jwk()] }).to_string());
    let builder = Validator::builder().trust(trusted).clock(ManualClock::at(NOW));
    (key, builder.token_cache_capacity(0).build().unwrap())
});

fuzz_target!(|payload: &[u8]| {
    let (key, validator) = &*SIGNER;
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": key.kid() }).to_string();
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", base64(header.as_bytes()), base64(payload));
    let token = format!("{signed}.{}", base64(&key.sign(signed.as_bytes())));
    let claims = PlainClaims::parse(payload);
    match validator.try_validate(&token).expect("the keys are static") {
        Ok(token) => claims.expect("a JSON object without duplicates").assert_equal(&token),
        Err(error) => {
            let AuthErrorKind::InvalidToken(reason) = error.kind() else { panic!("{error:?}") };
            let is_valid = claims.is_some_and(|claims| claims.is_valid());
            // The crate also refuses payloads with more than 64 members (`DuplicateMember`), and
            // tokens of more than 16 KiB (`Oversized`). `PlainClaims` has neither limit.
            let is_limit =
                matches!(reason, InvalidToken::DuplicateMember | InvalidToken::Oversized);
            assert!(!is_valid || is_limit, "valid but refused: {reason}");
        }
    }
});

/// The members of a JSON object in their original order, including duplicates.
struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The claims as plain JSON values. Each value is parsed separately.
struct PlainClaims(HashMap<String, Value>);

impl PlainClaims {
    /// Parses a payload. Returns `None` if the payload is not an object or has a duplicate member.
    fn parse(payload: &[u8]) -> Option<Self> {
        let RawMembers(members) = serde_json::from_slice(payload).ok()?;
        let count = members.len();
        // `Value` cannot represent 1e400 or half a surrogate pair. A claim that contains one of
        // them gets the value `[null]` instead. If a claim that `is_valid` checks has the value
        // `[null]`, `is_valid` returns `false`.
        let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(json!([null]));
        let claims: HashMap<_, _> =
            members.into_iter().map(|(name, raw)| (name, value(raw))).collect();
        (claims.len() == count).then_some(Self(claims))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    /// Returns `true` if the claim is absent or is a string.
    fn is_text(&self, claim: &str) -> bool {
        self.0.get(claim).is_none_or(Value::is_string)
    }

    fn audiences(&self) -> Option<Vec<&str>> {
        match self.0.get("aud")? {
            Value::String(one) => Some(vec![one]),
            Value::Array(several) => several.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }

    /// Returns the time in a claim, rounded to whole seconds. Returns `None` if the claim is
    /// absent, is not a number, or is a time outside the years 1970 to 9999.
    fn date(&self, claim: &str, rounded: fn(f64) -> f64) -> Option<f64> {
        let date = rounded(self.0.get(claim)?.as_f64()?);
        (0.0..253_402_300_800.0).contains(&date).then_some(date)
    }

    fn kind(&self) -> Option<TokenKind> {
        let audiences = self.audiences()?;
        let claim = self.text("organization_id");
        if claim == Some("") {
            return None;
        }
        if audiences.contains(&AUDIENCE) {
            let foreign = audiences.iter().any(|aud| aud.starts_with("urn:logto:"));
            return match claim {
                _ if foreign => None,
                Some(_) => Some(TokenKind::OrganizationResource),
                None => Some(TokenKind::Global),
            };
        }
        let id = audiences.first()?.strip_prefix(ORGANIZATION).filter(|id| !id.is_empty())?;
        let one = audiences.iter().all(|aud| aud.strip_prefix(ORGANIZATION) == Some(id));
        (one && claim.is_none_or(|claim| claim == id)).then_some(TokenKind::OrganizationPermissions)
    }

    fn is_valid(&self) -> bool {
        let texts = ["client_id", "organization_id", "scope", "jti"];
        let now = NOW as f64;
        texts.iter().all(|claim| self.is_text(claim))
            && self.text("iss") == Some(ISSUER)
            && self.text("sub").is_some_and(|sub| !sub.is_empty())
            && !self.0.contains_key("cnf")
            && self.kind().is_some()
            && self.date("exp", f64::floor).is_some_and(|exp| now < exp + TOLERANCE)
            && (!self.0.contains_key("iat") || self.date("iat", f64::floor).is_some())
            && (!self.0.contains_key("nbf")
                || self.date("nbf", f64::ceil).is_some_and(|nbf| nbf <= now + TOLERANCE))
    }

    fn assert_equal(&self, token: &AccessToken) {
        assert!(self.is_valid(), "invalid but accepted: {:?}", self.0);
        assert_eq!(Some(token.issuer()), self.text("iss"));
        assert_eq!(Some(token.subject()), self.text("sub"));
        assert_eq!(token.client_id(), self.text("client_id"));
        assert_eq!(token.jwt_id(), self.text("jti"));
        assert_eq!(token.scopes().as_str(), self.text("scope").unwrap_or_default());
        assert_eq!(Some(token.audiences().collect()), self.audiences());
        assert_eq!(Some(token.kind()), self.kind());
        let organization = match token.kind() {
            TokenKind::OrganizationPermissions => {
                self.audiences().unwrap()[0].strip_prefix(ORGANIZATION)
            }
            _ => self.text("organization_id"),
        };
        assert_eq!(token.organization_id(), organization);
    }
}
