//! Validates a token in this order: cache, header, claims, key, signature.

mod builder;
mod cache;
pub(crate) mod claims;
pub mod explain;
pub(crate) mod jws;
pub(crate) mod lifetime;
pub(crate) mod revocation;
mod signature_checks;
pub(crate) mod status;
pub(crate) mod token_claims;

use std::{fmt, sync::Arc};

pub use builder::ValidatorBuilder;

use crate::{
    access_token::{AccessToken, Anonymous, VerifiedToken},
    algorithm::Algorithm,
    bearer::{challenge::ChallengeSettings, credentials::is_b64token},
    clock::{Clock, Moment},
    error::{AuthError, AuthErrorKind, InvalidRequest, InvalidToken, KeysError},
    http_client::HttpClients,
    issuer::TrustedIssuer,
    jwks::{key_set::VerifyingKey, key_store::KeyStore, refresh::RefreshPolicy},
    metrics::TokenMetrics,
    validator::{
        cache::TokenCache,
        claims::{ClaimRules, Payload},
        jws::{Header, Jws},
        revocation::{IssuerRevocations, RevocationSets},
        signature_checks::{QueueLimits, SignatureChecks, Signed, SignedToken},
        token_claims::TokenClaims,
    },
};

/// Validates access tokens of the issuers that it trusts (RFC 9068 §4). A clone shares all state.
///
/// Building a validator sends no request and starts no task, so a service can start while Logto is
/// down. The first request that needs keys starts a fetch, on the tokio runtime that handles this
/// request.
///
/// ```
/// use tower_logto::{Issuer, Validator};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let validator = Validator::new(&issuer, "https://shopping.api")?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Validator(Arc<ValidatorInner>);

struct ValidatorInner {
    issuers: Box<[Arc<IssuerEntry>]>,
    /// The identifiers of the issuers, for error messages.
    issuer_names: Arc<[Box<str>]>,
    clock: Arc<dyn Clock>,
    max_token_size: usize,
    challenge: Arc<ChallengeSettings>,
    cache: TokenCache,
    metrics: TokenMetrics,
    signatures: SignatureChecks,
    /// Only [`Validator::derive`] reads this field and the four fields below.
    refresh: RefreshPolicy,
    clients: HttpClients,
    token_cache_capacity: usize,
    queue: QueueLimits,
    revocations: RevocationSets,
}

/// A trusted issuer, with its keys and the rules for its tokens.
struct IssuerEntry {
    rules: ClaimRules,
    keys: Arc<KeyStore>,
    trusted: TrustedIssuer,
    revocations: IssuerRevocations,
}

/// The reason why a check returned no access token.
pub(crate) enum Stop {
    Refused(AuthErrorKind),
    /// The signature and the claims are valid, but the revocation check refuses the token.
    Revoked(Box<AuthError>),
    /// The check must wait. [`Validator::finish`] completes the check.
    Pending(Box<PendingToken>),
}

/// A token whose signature has not been checked yet. Everything else in the token is valid.
pub(crate) struct PendingToken {
    token: Arc<SignedToken>,
    claims: TokenClaims,
    issuer: Arc<IssuerEntry>,
    key: PendingKey,
}

enum PendingKey {
    /// The key is known, but the token must wait. It waits for the signature checks of other
    /// tokens, or for the first revocation rules.
    Found(Arc<VerifyingKey>),
    /// The key must be fetched first.
    Missing { kid: Option<Box<str>>, algorithm: Algorithm },
}

impl Validator {
    /// Validates a token without waiting. Returns `None` if the validator must first fetch keys or
    /// load the first revocation rules. In these cases, use [`validate`](Self::validate), which
    /// waits.
    ///
    /// ```
    /// # let issuer = tower_logto::Issuer::logto("https://tenant.logto.app")?;
    /// # let validator = tower_logto::Validator::new(&issuer, "https://shopping.api")?;
    /// let opaque = validator.try_validate("not-a-jwt").unwrap();
    /// assert_eq!(opaque.unwrap_err().status(), 401);
    /// # Ok::<(), tower_logto::error::ConfigError>(())
    /// ```
    pub fn try_validate(&self, token: &str) -> Option<Result<AccessToken, AuthError>> {
        match self.check(token.as_bytes()) {
            Ok(token) => Some(Ok(token)),
            Err(Stop::Refused(kind)) => Some(Err(self.error(kind))),
            Err(Stop::Revoked(error)) => Some(Err(*error)),
            Err(Stop::Pending(pending)) => self.finish_now(*pending),
        }
    }

    /// Validates a token. If keys must be fetched first, waits up to 6 s for the fetch. If a fetch
    /// is already in flight but does not return the token's key, waits for a second fetch. If the
    /// token's key id is unknown and no fetch is permitted yet, first waits until a fetch is
    /// permitted. This additional wait takes at most 5 s. If the revocation rules are being loaded
    /// for the first time, waits up to 1 s for the rules.
    ///
    /// During a flood of tokens with bad signatures, the signature check of a token that is not
    /// cached also waits in a queue. [`max_queue_time`](ValidatorBuilder::max_queue_time) limits
    /// that wait.
    ///
    /// # Errors
    /// Returns an error if the token is refused or if the check cannot be completed. Examples of
    /// errors for an incomplete check are [`AuthErrorKind::KeysUnavailable`] and
    /// [`AuthErrorKind::TooManySignatureChecks`].
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel a fetch that other requests wait for.
    ///
    /// # Runtime
    /// Fetching keys requires a tokio runtime with I/O and time enabled. Waiting for revocation
    /// rules from Redis requires a tokio runtime with time enabled. Nothing else requires a
    /// runtime.
    pub async fn validate(&self, token: &str) -> Result<AccessToken, AuthError> {
        match self.check(token.as_bytes()) {
            Ok(token) => Ok(token),
            Err(Stop::Refused(kind)) => Err(self.error(kind)),
            Err(Stop::Revoked(error)) => Err(*error),
            Err(Stop::Pending(pending)) => self.finish(*pending).await,
        }
    }

    /// Checks the lifetime and the key of an accepted token again. With the feature `revocation`,
    /// also checks the rules that revoke tokens. This method does not wait.
    ///
    /// Use this method for a connection that outlives the request that opened the connection. This
    /// method uses the keys and the revocation rules of the validator that accepted the token.
    ///
    /// ```
    /// use tower_logto::{AccessToken, AuthError, Validator};
    ///
    /// /// Called for each message of a WebSocket.
    /// fn receive(validator: &Validator, token: &AccessToken, text: &str) -> Result<(), AuthError> {
    ///     validator.recheck(token)?;
    ///     println!("{}: {text}", token.subject());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns [`AuthErrorKind::InvalidToken`] if the token is no longer valid. Examples are an
    /// expired token, a revoked token, and a token whose key was removed from the issuer's key set.
    ///
    /// Returns [`AuthErrorKind::KeysUnavailable`] if the issuer's keys became too old. Returns
    /// [`AuthErrorKind::RevocationsUnavailable`] if a strict `RedisStore` currently refuses every
    /// token, for example because Redis has been unavailable for too long.
    pub fn recheck(&self, token: &AccessToken) -> Result<(), AuthError> {
        let VerifiedToken { claims, key, keys, .. } = token.verified.as_ref();
        let now = Moment::now(&*self.0.clock);
        claims.lifetime.check(now.unix).map_err(|reason| token.refuse(reason.into()))?;
        keys.recheck(key, now).map_err(|kind| token.refuse(kind))?;
        token.check_revocation()
    }

    /// Fetches the keys of each issuer now, unless the validator has usable keys for that issuer.
    /// If you call this method before the first request, that request need not wait for keys.
    ///
    /// Stale keys can still be usable. If a refresh of such keys is due, this method starts the
    /// refresh in the background and does not wait for it.
    ///
    /// # Errors
    /// Returns an error if a fetch fails. If several fetches fail, returns the first error. The
    /// validator is still usable. After a failed fetch, a short retry delay begins. The first
    /// request after this delay starts another fetch.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    pub async fn warm_up(&self) -> Result<(), KeysError> {
        let mut outcome = Ok(());
        for issuer in &self.0.issuers {
            outcome = outcome.and(issuer.keys.load().await);
        }
        outcome
    }

    /// Checks a token with the current keys, without waiting.
    pub(crate) fn check(&self, token: &[u8]) -> Result<AccessToken, Stop> {
        let valid = self.check_jwt(token).map_err(|stop| match stop {
            // RFC 6750 §2.1 lists the characters that a token may contain. A request whose token
            // contains other characters is malformed (§3.1). A token with other characters is never
            // accepted. Therefore, this code checks the characters only if parsing has failed.
            Stop::Refused(AuthErrorKind::InvalidToken(
                InvalidToken::NotAJwt | InvalidToken::Malformed(_),
            )) if !is_b64token(token) => Stop::Refused(InvalidRequest::MalformedCredentials.into()),
            stop => stop,
        })?;
        valid.check_revocation().map_err(|error| Stop::Revoked(Box::new(error)))?;
        Ok(valid)
    }

    /// Completes the check of a pending token. Waits for the token's key and for the first
    /// revocation rules. During a flood of forged tokens, the check also waits in a queue.
    pub(crate) async fn finish(&self, pending: PendingToken) -> Result<AccessToken, AuthError> {
        let finished = async {
            let PendingToken { token, claims, issuer, key } = pending;
            let key = match key {
                PendingKey::Found(key) => key,
                PendingKey::Missing { kid, algorithm } => {
                    issuer.keys.wait_for(kid.as_deref(), algorithm).await?
                }
            };
            self.0.signatures.check(&token, &key).await?;
            issuer.revocations.loaded().await;
            // The token may have expired while the request waited.
            claims.lifetime.check(self.0.clock.unix_time())?;
            Ok(self.accept_checked(&token.token, claims, key, &issuer))
        };
        let valid = finished.await.map_err(|kind| self.error(kind))?;
        valid.check_revocation()?;
        Ok(valid)
    }

    /// Completes the check of a pending token without waiting. Returns `None` if the token's key or
    /// the first revocation rules are not loaded yet.
    fn finish_now(&self, pending: PendingToken) -> Option<Result<AccessToken, AuthError>> {
        let PendingToken { token, claims, issuer, key } = pending;
        let PendingKey::Found(key) = key else { return None };
        if issuer.revocations.are_loading() {
            return None;
        }
        if let Err(reason) = self.0.signatures.check_now(token.signed(), &key) {
            return Some(Err(self.error(reason.into())));
        }
        let valid = self.accept_checked(&token.token, claims, key, &issuer);
        Some(valid.check_revocation().map(|()| valid))
    }

    pub(crate) fn error(&self, kind: AuthErrorKind) -> AuthError {
        AuthError::new(kind, Some(Arc::clone(&self.0.challenge)))
    }

    pub(crate) fn anonymous(&self) -> Anonymous {
        Anonymous { challenge: Arc::clone(&self.0.challenge) }
    }

    fn from_inner(inner: ValidatorInner) -> Self {
        Self(Arc::new(inner))
    }

    /// Validates a token as RFC 9068 §4 requires. The cheapest checks come first, and the check of
    /// the signature comes last.
    fn check_jwt(&self, token: &[u8]) -> Result<AccessToken, Stop> {
        if token.len() > self.0.max_token_size {
            return Err(InvalidToken::Oversized.into());
        }
        if let Some(cached) = self.cached(token) {
            self.0.metrics.cache_hit();
            return Ok(cached);
        }
        let jws = Jws::parse(token)?;
        let header = jws.decode_header()?;
        let header = Header::parse(&header)?;
        header.check_extensions()?;
        header.check_type()?;
        let json = jws.decode_payload()?;
        let payload = Payload::parse(&json)?;
        let issuer = self.issuer_of(&payload)?;
        let IssuerEntry { rules, keys, .. } = issuer.as_ref();
        let algorithm = header.algorithm(&rules.algorithms)?;
        // Read the wall clock only here, and the monotonic clock only in `now`. Many tokens are
        // refused before these clocks are needed.
        let unix = self.0.clock.unix_time();
        let claims = claims::validate(&payload, rules, unix)?;
        let kid = header.kid.as_deref();
        let now = || Moment { unix, monotonic: self.0.clock.monotonic() };
        let key = keys.find(kid, algorithm, now)?;
        let signature = jws.decode_signature()?;
        let subject = || self.0.signatures.subject(&rules.issuer, claims.subject());
        let pending = |signature, key| {
            let (token, message_length, subject) = (token.into(), jws.signed.len(), subject());
            Stop::Pending(Box::new(PendingToken {
                token: Arc::new(SignedToken { token, message_length, signature, subject }),
                claims: claims.to_token_claims(&json),
                issuer: Arc::clone(issuer),
                key,
            }))
        };
        let Some(key) = key else {
            let kid = kid.map(Into::into);
            return Err(pending(signature, PendingKey::Missing { kid, algorithm }));
        };
        if self.0.signatures.are_queued(now()) || issuer.revocations.are_loading() {
            return Err(pending(signature, PendingKey::Found(key)));
        }
        let signed = Signed { message: jws.signed, signature: &signature, subject: subject() };
        self.0.signatures.check_now(signed, &key)?;
        Ok(self.accept_checked(token, claims.to_token_claims(&json), key, issuer))
    }

    /// Returns the cached token if it has not expired and its key may still be used. If another
    /// validator with the same cache accepted the token, this method revalidates the token.
    fn cached(&self, token: &[u8]) -> Option<AccessToken> {
        let cached = self.0.cache.get(token)?;
        let now = Moment::now(&*self.0.clock);
        let VerifiedToken { claims, key, keys, challenge, .. } = cached.verified.as_ref();
        if !Arc::ptr_eq(challenge, &self.0.challenge) {
            return self.revalidate(&cached, token, now);
        }
        if keys.holds(key, now) && claims.lifetime.check(now.unix).is_ok() {
            return Some(cached);
        }
        self.0.cache.remove(token);
        None
    }

    /// Validates a cached token that another validator with the same cache accepted. Checks
    /// everything except the signature.
    ///
    /// Returns `None` if the token must be checked in full. If a check fails here, the result is
    /// also `None`, and the full check then returns the reason for the refusal.
    fn revalidate(&self, cached: &AccessToken, token: &[u8], now: Moment) -> Option<AccessToken> {
        let VerifiedToken { claims, key, keys, .. } = cached.verified.as_ref();
        let json = claims.json();
        let payload = Payload::parse(json).ok()?;
        let issuer = self.issuer_of(&payload).ok()?;
        // Two validators share a key store only if they trust the same issuer and allow the same
        // algorithms for this issuer.
        if !Arc::ptr_eq(keys, &issuer.keys) || !keys.holds(key, now) {
            return None;
        }
        let claims = claims::validate(&payload, &issuer.rules, now.unix).ok()?;
        let claims = claims.to_token_claims(json);
        Some(self.accept(token, claims, Arc::clone(key), issuer))
    }

    /// Searches this validator for an issuer with the same key settings as `trusted`, and returns
    /// the keys of that issuer. A derived validator shares these keys with this validator.
    fn keys_of(&self, trusted: &TrustedIssuer) -> Option<Arc<KeyStore>> {
        let entry = self.0.issuers.iter().find(|entry| entry.trusted.has_same_keys(trusted))?;
        Some(Arc::clone(&entry.keys))
    }

    /// Accepts a token whose signature was checked.
    fn accept_checked(
        &self,
        token: &[u8],
        claims: TokenClaims,
        key: Arc<VerifyingKey>,
        issuer: &IssuerEntry,
    ) -> AccessToken {
        let accepted = self.accept(token, claims, key, issuer);
        self.0.metrics.accepted(|| self.0.cache.count());
        accepted
    }

    /// Creates the access token and caches it.
    fn accept(
        &self,
        token: &[u8],
        claims: TokenClaims,
        key: Arc<VerifyingKey>,
        issuer: &IssuerEntry,
    ) -> AccessToken {
        let challenge = Arc::clone(&self.0.challenge);
        let keys = Arc::clone(&issuer.keys);
        issuer.revocations.record(&claims);
        let revocable = issuer.revocations.revocable(&claims);
        let accepted = AccessToken::new(VerifiedToken { claims, challenge, key, keys, revocable });
        self.0.cache.insert(token, accepted.clone());
        accepted
    }

    /// Returns the trusted issuer whose identifier equals the unverified `iss`. The claim only
    /// selects the issuer. It does not prove that the issuer signed the token.
    fn issuer_of(&self, payload: &Payload<'_>) -> Result<&Arc<IssuerEntry>, InvalidToken> {
        let issuer = payload.issuer()?;
        let mut issuers = self.0.issuers.iter();
        issuers
            .find(|entry| entry.rules.issuer.as_ref() == issuer)
            .ok_or_else(|| InvalidToken::untrusted_issuer(issuer, &self.0.issuer_names))
    }

    /// Returns the keys of the first issuer.
    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn remote_keys(&self) -> &Arc<crate::jwks::refresh::RemoteKeys> {
        match self.0.issuers[0].keys.as_ref() {
            KeyStore::Remote(keys) => keys,
            KeyStore::Static(_) => panic!("the keys are static"),
        }
    }

    #[cfg(test)]
    #[cfg(feature = "testing")]
    pub(crate) fn cache(&self) -> &TokenCache {
        &self.0.cache
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Validator").field(&self.0.issuer_names).finish()
    }
}

impl From<AuthErrorKind> for Stop {
    fn from(kind: AuthErrorKind) -> Self {
        Self::Refused(kind)
    }
}

impl From<InvalidToken> for Stop {
    fn from(reason: InvalidToken) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<InvalidRequest> for Stop {
    fn from(reason: InvalidRequest) -> Self {
        Self::Refused(reason.into())
    }
}
