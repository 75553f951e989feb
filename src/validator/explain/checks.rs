//! The checks of [`Validator::explain`]. Their order and their rules are the same as in the
//! validator.

use std::{sync::Arc, time::Duration};

use crate::{
    bearer::credentials::is_b64token,
    clock::Moment,
    error::{AuthErrorKind, InvalidRequest, InvalidToken},
    validator::{
        IssuerEntry, Validator,
        claims::{self, Payload},
        explain::{Check, Explanation, Facts, Outcome, none, quoted},
        jws::{Header, Jws},
    },
};

impl Validator {
    /// Explains every check of a token, including the checks after the first failure.
    ///
    /// If keys must be fetched first, this method waits for the keys, with the same time limits as
    /// [`validate`](Self::validate). This method does not add the token to the cache of validated
    /// tokens. To add the checks of a route, use [`require_scopes`](Explanation::require_scopes)
    /// and [`require_organization`](Explanation::require_organization).
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    ///
    /// # Runtime
    /// Fetching keys requires a tokio runtime with I/O and time enabled.
    pub async fn explain(&self, token: &str) -> Explanation {
        let mut report = Report::default();
        let Some(jws) = report.format(token, self.0.max_token_size) else {
            return report.finish();
        };
        let header_json = jws.decode_header();
        let header = report.header(&header_json);
        let payload_json = jws.decode_payload();
        let payload = report.payload(&payload_json);
        let issuer = report.issuer(self, payload.as_ref()).map(Arc::as_ref);
        report.algorithm(header.as_ref(), issuer);
        report.claims(payload.as_ref(), issuer, Moment::now(&*self.0.clock).unix);
        report.signature(self, &jws, header.as_ref(), issuer).await;
        if let (Some(payload), Ok(json), Some(issuer)) = (&payload, &payload_json, issuer) {
            report.revocation(payload, json, issuer, Moment::now(&*self.0.clock).unix);
        }
        report.facts = payload.map(|payload| facts(&payload, issuer));
        report.finish()
    }
}

#[derive(Default)]
struct Report {
    checks: Vec<Check>,
    facts: Option<Facts>,
}

impl Report {
    fn format<'a>(&mut self, token: &'a str, max_size: usize) -> Option<Jws<'a>> {
        let size = format!("{} bytes", token.len());
        let expected = format!("at most {max_size} bytes");
        if token.len() > max_size {
            self.fail("size", size, expected, InvalidToken::Oversized);
            return None;
        }
        self.pass("size", size, expected);
        let segments = token.split('.').count();
        let found = match segments {
            1 => "an opaque token".to_owned(),
            5 => "5 segments: an encrypted token".to_owned(),
            _ => format!("{segments} segments"),
        };
        let expected = "a signed JWT with 3 segments";
        if !is_b64token(token.as_bytes()) {
            let mut advice = InvalidRequest::MalformedCredentials.to_string();
            if token.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")) {
                advice.push_str("; leave out the scheme `Bearer`");
            }
            self.checks.push(Check::failed("format", found, expected, advice));
            return None;
        }
        match Jws::parse(token.as_bytes()) {
            Ok(jws) => {
                self.pass("format", found, expected);
                Some(jws)
            }
            Err(reason) => {
                self.fail("format", found, expected, reason);
                None
            }
        }
    }

    fn header<'a>(&mut self, json: &'a Result<String, InvalidToken>) -> Option<Header<'a>> {
        let parsed = match json {
            Ok(json) => Header::parse(json),
            Err(reason) => Err(reason.clone()),
        };
        match parsed {
            Ok(header) => {
                let found = header.typ().map_or_else(none, quoted);
                self.check("crit", none(), "none", header.check_extensions());
                self.check("typ", found, "\"at+jwt\"", header.check_type());
                Some(header)
            }
            Err(reason) => {
                self.fail("header", "malformed", "a JSON object", reason);
                None
            }
        }
    }

    fn payload<'a>(&mut self, json: &'a Result<String, InvalidToken>) -> Option<Payload<'a>> {
        let parsed = match json {
            Ok(json) => Payload::parse(json),
            Err(reason) => Err(reason.clone()),
        };
        parsed.map_err(|reason| self.fail("payload", "malformed", "a JSON object", reason)).ok()
    }

    /// Returns the trusted issuer that the token's `iss` identifies. If `iss` is not a trusted
    /// issuer, but the validator trusts exactly one issuer, this method returns the only trusted
    /// issuer. The other checks then use the rules and the keys of the returned issuer.
    fn issuer<'a>(
        &mut self,
        validator: &'a Validator,
        payload: Option<&Payload<'_>>,
    ) -> Option<&'a Arc<IssuerEntry>> {
        let Some(payload) = payload else {
            self.skip("iss", "the payload");
            return None;
        };
        let found = payload.issuer().map_or_else(|_| none(), quoted);
        let expected = validator.0.issuer_names.join(", ");
        match validator.issuer_of(payload) {
            Ok(issuer) => {
                self.pass("iss", found, expected);
                Some(issuer)
            }
            Err(reason) => {
                self.fail("iss", found, expected, reason);
                validator.0.issuers.first().filter(|_| validator.0.issuers.len() == 1)
            }
        }
    }

    fn algorithm(&mut self, header: Option<&Header<'_>>, issuer: Option<&IssuerEntry>) {
        let (Some(header), Some(issuer)) = (header, issuer) else {
            return self.skip("alg", "the header and a trusted issuer");
        };
        let allowed = &issuer.rules.algorithms;
        let names: Vec<_> = allowed.iter().map(|algorithm| algorithm.name()).collect();
        let found = header.algorithm_name().map_or_else(none, quoted);
        self.check("alg", found, names.join(", "), header.algorithm(allowed));
    }

    fn claims(
        &mut self,
        payload: Option<&Payload<'_>>,
        issuer: Option<&IssuerEntry>,
        now: Duration,
    ) {
        let (Some(payload), Some(issuer)) = (payload, issuer) else {
            for claim in ["aud", "sub", "cnf", "exp"] {
                self.skip(claim, "the payload and a trusted issuer");
            }
            return;
        };
        let rules = &issuer.rules;
        let audiences: Vec<_> = payload.audiences().map(quoted).collect();
        let organization = payload.organization_id().map(quoted);
        let mut found = if audiences.is_empty() { none() } else { audiences.join(", ") };
        if let Some(organization) = organization {
            found = format!("{found} with organization_id {organization}");
        }
        let mut expected = rules.audiences.join(", ");
        if rules.organizations {
            expected.push_str(", or urn:logto:organization:<id>");
        }
        self.check("aud", found, expected, payload.kind(rules));
        let subject = payload.subject();
        let found = subject.as_ref().map_or_else(|_| none(), |subject| quoted(subject));
        self.check("sub", found, "", subject);
        let bearer = payload.check_bearer();
        let found = if bearer.is_ok() { none() } else { "bound to a key".to_owned() };
        self.check("cnf", found, "none", bearer);
        let lifetime = payload.lifetime(rules.clock_tolerance);
        let found = lifetime.as_ref().map_or_else(
            |_| "none, or not a number".to_owned(),
            |lifetime| {
                let (exp, now) = (lifetime.expires_at, now.as_secs());
                match exp.checked_sub(now) {
                    Some(left) => format!("{exp}, in {left} s"),
                    None => format!("{exp}, {} s ago", now - exp),
                }
            },
        );
        let valid = lifetime.and_then(|lifetime| lifetime.check(now));
        self.check("exp", found, "in the future", valid);
        self.issued_at(payload, now.as_secs());
    }

    /// Adds the check of `iat`. The validator checks only that `iat` is a valid date. If this date
    /// is in the future, the clocks of this machine and of Logto differ. The check then passes, but
    /// with advice.
    fn issued_at(&mut self, payload: &Payload<'_>, now: u64) {
        match payload.issued_at() {
            Err(reason) => self.fail("iat", "not a date", "a date", reason),
            Ok(Some(iat)) if iat > now => {
                let advice = "this machine's clock is behind Logto's: synchronize it (NTP)";
                let check = Check::passed("iat", format!("{iat}, in {} s", iat - now), "");
                self.checks.push(Check { advice: Some(advice.to_owned()), ..check });
            }
            Ok(Some(iat)) => self.pass("iat", format!("{iat}, {} s ago", now - iat), ""),
            Ok(None) => self.pass("iat", none(), ""),
        }
    }

    async fn signature(
        &mut self,
        validator: &Validator,
        jws: &Jws<'_>,
        header: Option<&Header<'_>>,
        issuer: Option<&IssuerEntry>,
    ) {
        let signature = jws.decode_signature();
        let found = signature.as_ref().map_or_else(
            |_| "not base64url".to_owned(),
            |signature| format!("{} bytes", signature.len()),
        );
        let signature = match signature {
            Ok(signature) => signature,
            Err(reason) => {
                self.skip("key", "a signature");
                return self.fail("signature", found, "valid", reason);
            }
        };
        let Some((header, issuer, algorithm)) = header.zip(issuer).and_then(|(header, issuer)| {
            let algorithm = header.algorithm(&issuer.rules.algorithms).ok()?;
            Some((header, issuer, algorithm))
        }) else {
            self.skip("key", "the header, a trusted issuer and an allowed algorithm");
            return self.skip("signature", "a key");
        };
        let kid = header.kid.as_deref();
        let kid_found = kid.map_or_else(none, |kid| format!("kid {}", quoted(kid)));
        let key = issuer.keys.wait_for(kid, algorithm).await;
        let published = issuer.keys.quoted_kids(Moment::now(&*validator.0.clock));
        let expected = format!("a published key: {}", published.join(", "));
        match key {
            Ok(key) => {
                self.pass("key", kid_found, expected);
                let verified = key.verify(jws.signed, &signature);
                self.check("signature", found, "valid", verified);
            }
            Err(AuthErrorKind::InvalidToken(reason)) => {
                self.fail("key", kid_found, expected, reason);
                self.skip("signature", "the key");
            }
            Err(unavailable) => {
                let advice = Some(validator.error(unavailable).to_string());
                let check = Check::passed("key", kid_found, "a published key");
                self.checks.push(Check { outcome: Outcome::Unknown, advice, ..check });
                self.skip("signature", "the key");
            }
        }
    }

    /// Adds the check of the issuer's revocation rules, if the validator has such rules. Skips the
    /// check if the claims are not valid.
    fn revocation(
        &mut self,
        payload: &Payload<'_>,
        json: &str,
        issuer: &IssuerEntry,
        now: Duration,
    ) {
        if !issuer.revocations.are_set() {
            return;
        }
        let Ok(claims) = claims::validate(payload, &issuer.rules, now) else {
            return self.skip("revocation", "valid claims");
        };
        match issuer.revocations.revocable(&claims.to_token_claims(json)).check() {
            Ok(()) => self.pass("revocation", none(), "no rule"),
            Err(AuthErrorKind::InvalidToken(reason)) => {
                let (found, expected) = match &reason {
                    InvalidToken::TooLongLife { life, longest } => (
                        format!("valid for {} s", life.as_secs()),
                        format!("at most {} s", longest.as_secs()),
                    ),
                    InvalidToken::MissingClaim(claim) => (none(), (*claim).into()),
                    _ => ("a rule".into(), "no rule".into()),
                };
                self.fail("revocation", found, expected, reason);
            }
            Err(_) => {
                let advice = Some("the rules that revoke tokens are unavailable".into());
                let check = Check::passed("revocation", none(), "no rule");
                self.checks.push(Check { outcome: Outcome::Unknown, advice, ..check });
            }
        }
    }

    fn check<T>(
        &mut self,
        name: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
        outcome: Result<T, InvalidToken>,
    ) {
        match outcome {
            Ok(_) => self.pass(name, found, expected),
            Err(reason) => self.fail(name, found, expected, reason),
        }
    }

    fn pass(&mut self, name: &'static str, found: impl Into<String>, expected: impl Into<String>) {
        self.checks.push(Check::passed(name, found, expected));
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers have no further use for the reason")]
    fn fail(
        &mut self,
        name: &'static str,
        found: impl Into<String>,
        expected: impl Into<String>,
        reason: InvalidToken,
    ) {
        self.checks.push(Check::failed(name, found, expected, reason.to_string()));
    }

    fn skip(&mut self, name: &'static str, needs: &str) {
        self.checks.push(Check::skipped(name, needs));
    }

    fn finish(self) -> Explanation {
        Explanation::new(self.checks, self.facts)
    }
}

fn facts(payload: &Payload<'_>, issuer: Option<&IssuerEntry>) -> Facts {
    let kind = issuer.and_then(|issuer| payload.kind(&issuer.rules).ok());
    let organization = kind.and_then(|(_, organization)| organization);
    Facts {
        kind: kind.map(|(kind, _)| kind),
        organization: organization.map(Into::into),
        organization_checked: false,
        scope: payload.scope().unwrap_or_default().into(),
        is_machine: payload.is_machine(),
    }
}
