//! Arbitrary responses of the token endpoint over HTTP. The client accepts a token only from a
//! response that conforms to RFC 6749 §5.1, and no error contains a secret.

#![no_main]

use std::{
    collections::HashMap,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tower_logto::{
    Clock as _,
    m2m::{
        ClientSecret, IssuedToken, TokenClient, TokenRequest, TokenRequestError,
        TokenRequestErrorKind,
    },
    testing::{Fault, ManualClock, TestIssuer},
};
use tower_logto_fuzz::NOW;

const SECRET: &str = "mXn2K9rT4vQ8wY6zB1cD3fG5hJ7";
const STATUSES: [u16; 12] = [200, 200, 200, 201, 204, 302, 400, 401, 403, 429, 500, 503];
const YEAR: f64 = 365.0 * 24.0 * 3600.0;

struct Stage {
    runtime: Runtime,
    logto: TestIssuer,
    clock: ManualClock,
    tokens: TokenClient,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let logto = runtime.block_on(TestIssuer::start()).unwrap();
    let clock = ManualClock::at(NOW);
    let tokens = TokenClient::builder(&logto.issuer(), "app", ClientSecret::new(SECRET))
        .clock(clock.clone())
        .token_cache_capacity(10)
        .build()
        .unwrap();
    Stage { runtime, logto, clock, tokens }
});

fuzz_target!(|input: &[u8]| {
    // Each input requests a token for a different resource, so the client never returns a cached
    // token or a cached error.
    static REQUESTED: AtomicU64 = AtomicU64::new(0);
    // The first byte selects a status, and the rest is the body.
    let Some((choice, body)) = input.split_first() else { return };
    let Ok(body) = str::from_utf8(body) else { return };
    let status = STATUSES[usize::from(*choice) % STATUSES.len()];
    let Stage { runtime, logto, clock, tokens } = &*STAGE;
    // After many refusals, the client sends only one new request per 5 s. The clock therefore
    // advances by 5 s for each input.
    clock.advance(Duration::from_secs(5));
    logto.fault_token(Fault::Status(status, body.to_owned()));
    let number = REQUESTED.fetch_add(1, Ordering::Relaxed);
    let request = TokenRequest::resource(format!("https://api.example/{number}"));
    let members = serde_json::from_str::<Members>(body).ok();
    match runtime.block_on(tokens.token(&request)) {
        Ok(token) => {
            assert_eq!(status, 200);
            check_token(&token, &members.expect("JSON"), clock.unix_time());
        }
        Err(error) => check_error(&error, members.as_ref()),
    }
});

/// The members of the body. The client ignores unknown members. Such a member may have a value that
/// `serde_json::Value` refuses, such as a string with half a surrogate pair. This type therefore
/// stores the values as raw JSON.
type Members = HashMap<String, Box<RawValue>>;

fn text(members: &Members, member: &str) -> Option<String> {
    serde_json::from_str(members.get(member)?.get()).ok()
}

fn check_token(token: &IssuedToken, members: &Members, now: Duration) {
    assert_eq!(Some(token.secret()), text(members, "access_token").as_deref());
    let scheme = text(members, "token_type").unwrap();
    assert!(scheme.eq_ignore_ascii_case("bearer"), "{scheme}");
    assert_eq!(token.scopes().as_str(), text(members, "scope").unwrap_or_default());
    let header = token.authorization();
    assert!(header.is_sensitive());
    assert_eq!(header.to_str().unwrap(), format!("Bearer {}", token.secret()));
    let life = token.expires_at().duration_since(std::time::UNIX_EPOCH).unwrap();
    let life = life.saturating_sub(now).as_secs_f64();
    assert!(life <= YEAR, "{life}");
    let debug = format!("{token:?}");
    assert!(token.secret().len() < 20 || !debug.contains(token.secret()), "{debug}");
}

fn check_error(error: &TokenRequestError, members: Option<&Members>) {
    let kind = error.kind();
    assert!(
        matches!(
            kind,
            TokenRequestErrorKind::Refused
                | TokenRequestErrorKind::UnexpectedResponse
                | TokenRequestErrorKind::Connection
        ),
        "{error:?}"
    );
    if kind == TokenRequestErrorKind::Refused {
        assert!(members.is_some_and(|members| text(members, "error").is_some()), "{error:?}");
    }
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.len() < 4096 && !text.contains(char::is_control), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        let token = members.and_then(|members| self::text(members, "access_token"));
        // The `error_description` of a refusal may contain any text, even the token. This check
        // therefore skips refusals.
        let is_clean = kind == TokenRequestErrorKind::Refused
            || token.as_ref().is_none_or(|token| token.len() < 20 || !text.contains(token));
        assert!(is_clean, "{text}");
    }
}
