//! What a token says: its header and payload read once, and one pure function that judges them.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    algorithm::Algorithm,
    bearer::ChallengeSettings,
    issuer::ORGANIZATION_AUDIENCE,
    reason::{Excerpt, InvalidToken},
    scope::TokenKind,
    token::{Audiences, Span, ValidClaims},
};

/// A JWS in compact serialization, cut at its two dots (RFC 7515 §7.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compact<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
    /// Header, dot and payload as they were received: what is signed.
    pub(crate) signed: &'a str,
}

impl<'a> Compact<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, InvalidToken> {
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::NotAJwt)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidToken::NotAJwt)?;
        if payload.contains('.') {
            return Err(InvalidToken::NotAJwt);
        }
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(InvalidToken::Malformed("an empty segment"));
        }
        Ok(Self { header, payload, signature, signed })
    }
}

/// Strict base64url (RFC 7515 §2): no padding, no other characters, canonical trailing bits.
pub(crate) fn decode(segment: &str, part: &'static str) -> Result<Vec<u8>, InvalidToken> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| InvalidToken::Malformed(part))
}

/// The same, into text.
pub(crate) fn decode_text(segment: &str, part: &'static str) -> Result<String, InvalidToken> {
    String::from_utf8(decode(segment, part)?).map_err(|_| InvalidToken::Malformed(part))
}

/// The JOSE header's members that matter here; `jku`, `jwk`, `x5u` and `x5c` are never looked at.
#[derive(Debug, Default)]
pub(crate) struct Header<'a> {
    algorithm: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    pub(crate) kid: Option<Cow<'a, str>>,
    critical: bool,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(json: &'a str) -> Result<Self, InvalidToken> {
        let mut header = Self::default();
        read_object(json, &mut header, "the header is not a JSON object with string members")?;
        Ok(header)
    }

    /// Refuses what is no access token (RFC 9068 §4), or asks for extensions (RFC 7515 §4.1.11).
    pub(crate) fn check(&self) -> Result<(), InvalidToken> {
        if self.critical {
            return Err(InvalidToken::Critical);
        }
        let is_access_token = |typ: &str| {
            typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
        };
        match self.typ.as_deref() {
            Some(typ) if is_access_token(typ) => Ok(()),
            typ => Err(InvalidToken::Type(typ.map(Excerpt::new))),
        }
    }

    /// The algorithm, if it is on the list (RFC 8725 §3.1); the token's word alone selects nothing.
    pub(crate) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, InvalidToken> {
        let name = self.algorithm.as_deref().unwrap_or_default();
        Algorithm::from_name(name)
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or_else(|| InvalidToken::Algorithm(Excerpt::new(name)))
    }
}

impl<'de> Members<'de> for Header<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "alg" => self.algorithm = Some(value.next_value::<Text<'de>>()?.0),
            "typ" => self.typ = Some(value.next_value::<Text<'de>>()?.0),
            "kid" => self.kid = Some(value.next_value::<Text<'de>>()?.0),
            "crit" => {
                value.next_value::<IgnoredAny>()?;
                self.critical = true;
            }
            _ => drop(value.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

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
        let outcome = read_object(json, &mut payload, "the payload is not a JSON object");
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
            .map(|id| keeper.span(&Cow::Borrowed(id))),
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
    fn span(&mut self, text: &Cow<'_, str>) -> Span {
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

/// An object's members, one by one.
trait Members<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error>;
}

/// Reads exactly one JSON object (serde's derive would also take an array), every member once.
fn read_object<'de>(
    json: &'de str,
    members: &mut impl Members<'de>,
    complaint: &'static str,
) -> Result<(), InvalidToken> {
    struct Object<'m, M> {
        members: &'m mut M,
        twice: &'m mut bool,
    }

    impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = Seen::new();
            while let Some(Text(name)) = map.next_key()? {
                if !seen.is_new(&name) {
                    *self.twice = true;
                    return Err(de::Error::custom("a member twice"));
                }
                self.members.member(&name, &mut map)?;
            }
            Ok(())
        }
    }

    let mut twice = false;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let object = Object { members, twice: &mut twice };
    let outcome = deserializer.deserialize_map(object).and_then(|()| deserializer.end());
    match outcome {
        Ok(()) => Ok(()),
        Err(_) if twice => Err(InvalidToken::Members),
        Err(_) => Err(InvalidToken::Malformed(complaint)),
    }
}

/// The names of an object so far: a bounded list that allocates only for names with escapes.
struct Seen<'de> {
    names: [&'de str; MAX_MEMBERS],
    escaped: Vec<String>,
    count: usize,
}

impl<'de> Seen<'de> {
    const fn new() -> Self {
        Self { names: [""; MAX_MEMBERS], escaped: Vec::new(), count: 0 }
    }

    /// Remembers a name; false if it was there, or the list is full.
    fn is_new(&mut self, name: &Cow<'de, str>) -> bool {
        let (names, free) = self.names.split_at_mut(self.count);
        if names.contains(&name.as_ref()) || self.escaped.iter().any(|known| known == name) {
            return false;
        }
        let Some(slot) = free.first_mut() else { return false };
        match name {
            Cow::Borrowed(name) => {
                *slot = name;
                self.count += 1;
            }
            Cow::Owned(name) if self.escaped.len() < MAX_MEMBERS => self.escaped.push(name.clone()),
            Cow::Owned(_) => return false,
        }
        true
    }
}

/// A JSON string, borrowed unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// One string, or an array of strings.
#[derive(Debug)]
enum Strings<'a> {
    One(Cow<'a, str>),
    Several(Vec<Cow<'a, str>>),
}

impl Strings<'_> {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        };
        texts.iter().map(AsRef::as_ref)
    }
}

impl<'de> Deserialize<'de> for Strings<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;

        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Strings<'de>, E> {
                Ok(Strings::One(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Strings<'de>, E> {
                Ok(Strings::One(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Strings::Several(texts))
            }
        }

        deserializer.deserialize_any(StringsVisitor)
    }
}

/// The last second of the year 9999.
const MAX_NUMERIC_DATE: f64 = 253_402_300_799.0;
const MAX_MEMBERS: usize = 64;
