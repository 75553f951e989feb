//! Tests of the token client's cache: token requests that many callers share, refreshes before the
//! expiry, backoff, and invalidation.

use std::{collections::HashSet, time::Duration};

use tower_logto::{
    Clock as _,
    m2m::{TokenClient, TokenRequest, TokenRequestErrorKind},
    testing::ManualClock,
};

use super::support::{client_at, client_of, granted, json, logto, read, response, secret, serve};
use crate::support::{SHOPPING_API, background_tasks_done, poll_once};

#[tokio::test]
async fn concurrent_callers_of_equal_token_requests_share_one_http_request() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.hang();
    let write = TokenRequest::resource(SHOPPING_API).scopes(["write:products"]);
    let callers = (0..2_000).map(|n| {
        let (tokens, request) = (tokens.clone(), if n < 1_000 { read() } else { write.clone() });
        tokio::spawn(async move { tokens.token(&request).await.map(|t| t.secret().to_owned()) })
    });
    let callers = callers.collect::<Vec<_>>();
    issuer.token_requested(2).await;
    issuer.recover();
    let mut secrets = [HashSet::new(), HashSet::new()];
    for (n, caller) in callers.into_iter().enumerate() {
        secrets[n / 1_000].insert(caller.await.unwrap().unwrap());
    }
    assert_eq!(secrets.map(|secrets| secrets.len()), [1, 1]);
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn token_requests_with_reordered_scopes_share_a_cached_token() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let both = ["read:products", "write:products"];
    let request = TokenRequest::resource(SHOPPING_API).scopes(both);
    let reversed = TokenRequest::resource(SHOPPING_API).scopes(both.into_iter().rev()).scopes(both);
    let token = tokens.token(&request).await.unwrap();
    assert_eq!(poll_once(tokens.token(&reversed)).unwrap().unwrap().secret(), token.secret());
    assert_eq!(issuer.token_requests(), 1);
}

#[tokio::test]
async fn cancelled_caller_does_not_cancel_the_token_request_of_other_callers() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.hang();
    let first = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.token(&read()).await }
    });
    issuer.token_requested(1).await;
    let second = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.token(&read()).await }
    });
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    issuer.recover();
    second.await.unwrap().unwrap();
    assert_eq!(issuer.token_requests(), 1);
}

#[tokio::test]
async fn tokens_valid_for_one_hour_need_about_25_token_requests_in_a_simulated_day() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let validator = issuer.validator(SHOPPING_API).unwrap();
    validator.warm_up().await.unwrap();
    tokens.token(&read()).await.unwrap();
    background_tasks_done().await;
    for _ in 0..24 * 60 * 4 {
        clock.advance(Duration::from_secs(15));
        let token = poll_once(tokens.token(&read())).expect("no caller waits").unwrap();
        // Even a verifier without clock tolerance would accept the token.
        assert!(token.expires_at() > std::time::UNIX_EPOCH + clock.unix_time());
        poll_once(validator.validate(token.secret())).expect("no I/O").unwrap();
        background_tasks_done().await;
    }
    let requests = issuer.token_requests();
    println!("token requests in a day: {requests}");
    assert!((24..=26).contains(&requests), "{requests}");
}

#[tokio::test]
async fn unused_token_is_not_refreshed() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    tokens.token(&read()).await.unwrap();
    clock.advance(Duration::from_secs(24 * 3600));
    background_tasks_done().await;
    assert_eq!(issuer.token_requests(), 1);
    tokens.token(&read()).await.unwrap();
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn refresh_margin_is_a_tenth_of_the_lifetime_and_at_most_60_s() {
    for (lifetime, margin, before, after) in [
        (100, None, 84, 90),
        (3_600, None, 3_509, 3_541),
        (3_600, Some(600), 2_699, 3_001),
        (100, Some(600), 24, 51),
    ] {
        let clock = ManualClock::default();
        let server = serve(move |n, _| {
            let members = format!("\"expires_in\":{lifetime},\"token_type\":\"Bearer\"");
            json("200 OK", &format!("{{\"access_token\":\"t{n}\",{members}}}"))
        });
        let mut builder = client_at(&server).clock(clock.clone());
        if let Some(margin) = margin {
            builder = builder.refresh_margin(Duration::from_secs(margin));
        }
        let tokens = builder.build().unwrap();
        let request = TokenRequest::resource(SHOPPING_API);
        tokens.token(&request).await.unwrap();
        for (seconds, requests) in [(before, 1), (after - before, 2)] {
            clock.advance(Duration::from_secs(seconds));
            poll_once(tokens.token(&request)).expect("no caller waits").unwrap();
            background_tasks_done().await;
            assert_eq!(server.requests().len(), requests, "{lifetime} {margin:?} {seconds}");
        }
    }
}

#[tokio::test]
async fn token_without_expires_in_is_cached_for_one_minute() {
    for expires_in in ["", "\"expires_in\":0,", "\"expires_in\":null,", "\"expires_in\":-5,"] {
        let clock = ManualClock::default();
        let server = serve(move |n, _| {
            let members = format!("{expires_in}\"token_type\":\"Bearer\"");
            json("200 OK", &format!("{{\"access_token\":\"t{n}\",{members}}}"))
        });
        let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
        let request = TokenRequest::resource(SHOPPING_API);
        for (seconds, secret) in [(0, "t0"), (50, "t0"), (11, "t1"), (50, "t1")] {
            clock.advance(Duration::from_secs(seconds));
            assert_eq!(tokens.token(&request).await.unwrap().secret(), secret, "{expires_in}");
        }
    }
}

#[tokio::test]
async fn token_expires_if_either_clock_passes_its_expiry() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    // Simulates a laptop that slept for two hours. Its monotonic clock stopped during this time.
    clock.set_unix_time(clock.unix_time() + Duration::from_secs(7_200));
    let second = tokens.token(&read()).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    clock.advance(Duration::from_secs(3_600));
    clock.set_unix_time(clock.unix_time() - Duration::from_secs(7_200));
    assert_ne!(tokens.token(&read()).await.unwrap().secret(), second.secret());
}

#[tokio::test]
async fn missing_scope_is_an_error_unless_it_is_optional() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let wanted = ["read:products", "delete:products", "audit"];
    let error =
        tokens.token(&TokenRequest::resource(SHOPPING_API).scopes(wanted)).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::MissingScopes);
    assert_eq!(error.missing_scopes().collect::<Vec<_>>(), ["audit", "delete:products"]);
    assert!(error.to_string().contains("\"audit delete:products\""), "{error}");
    assert!(error.hint().unwrap().contains("assign the app an M2M role"), "{error}");

    let optional = TokenRequest::resource(SHOPPING_API).optional_scopes(wanted);
    let token = tokens.token(&optional).await.unwrap();
    assert_eq!(token.scopes().iter().collect::<Vec<_>>(), ["read:products"]);
}

#[tokio::test]
async fn permanent_errors_are_retried_rarely() {
    for (status, error) in
        [(401, "invalid_client"), (400, "invalid_target"), (403, "access_denied")]
    {
        let clock = ManualClock::default();
        let body = format!("{{\"error\":\"{error}\"}}");
        let server = serve(move |_, _| json(&format!("{status} x"), &body));
        let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
        for second in 0..600 {
            let refusal = tokens.token(&read()).await.unwrap_err();
            assert_eq!(refusal.code(), Some(error));
            assert!(!refusal.is_retryable());
            if second == 0 {
                let wait = refusal.retry_after().unwrap();
                assert!(wait > Duration::from_secs(7) && wait <= Duration::from_secs(10));
            }
            clock.advance(Duration::from_secs(1));
        }
        let requests = server.requests().len();
        assert!((6..=8).contains(&requests), "{error}: {requests}");
    }
}

#[tokio::test]
async fn rfc_9110_section_10_2_3_retry_after_header_delays_the_next_request() {
    let clock = ManualClock::default();
    let server = serve(|n, _| match n {
        0 => response("429 Too Many Requests", "retry-after: 120\r\n", ""),
        _ => granted("a"),
    });
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    let error = tokens.token(&read()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    clock.advance(Duration::from_secs(119));
    let error = poll_once(tokens.token(&read())).unwrap().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(server.requests().len(), 1);
    clock.advance(Duration::from_secs(1));
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn only_the_given_token_is_invalidated() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    let second = tokens.successor(&first).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    // Late callers invalidate the first token again. This does not affect the second token.
    (0..1_000).for_each(|_| tokens.invalidate(&first));
    assert_eq!(poll_once(tokens.token(&read())).unwrap().unwrap().secret(), second.secret());
    // Another client does not know the second token. If that client calls `invalidate`, the call
    // has no effect.
    let other = client_of(&issuer, &clock);
    other.invalidate(&second);
    assert_eq!(poll_once(tokens.token(&read())).unwrap().unwrap().secret(), second.secret());
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn service_that_refuses_every_token_causes_few_token_requests() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    for _ in 0..3_600 {
        let token = tokens.token(&read()).await.unwrap();
        tokens.successor(&token).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    // Each call of `successor` reports that the service refused the token. The client replaces the
    // first refused token immediately, and the second one after 10 s. After each further
    // replacement, the interval doubles, up to 10 min.
    let requests = issuer.token_requests();
    assert!((8..=12).contains(&requests), "{requests}");
}

#[tokio::test]
async fn full_cache_removes_the_least_recently_used_token() {
    let server = serve(|n, _| {
        json("200 OK", &format!("{{\"access_token\":\"t{n}\",\"token_type\":\"bearer\"}}"))
    });
    let tokens = client_at(&server).token_cache_capacity(10).build().unwrap();
    for n in 0..100 {
        tokens.token(&TokenRequest::organization(format!("o{n}"))).await.unwrap();
        // A full cache still admits new tokens.
        let newest = poll_once(tokens.token(&TokenRequest::organization(format!("o{n}"))));
        assert_eq!(newest.unwrap().unwrap().secret(), format!("t{n}"));
    }
    tokens.token(&TokenRequest::organization("o0")).await.unwrap();
    assert_eq!(server.requests().len(), 101);
}

#[test]
fn token_request_outside_a_tokio_runtime_is_an_error() {
    let issuer = tower_logto::Issuer::logto("https://tenant.logto.app").unwrap();
    let tokens = TokenClient::new(&issuer, "app", secret()).unwrap();
    let error = poll_once(tokens.token(&read())).unwrap().unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::NotSent);
}

#[test]
fn blocked_runtime_does_not_block_callers_on_other_runtimes() {
    let clock = ManualClock::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (blocked, other) = (runtime(), runtime());
    let issuer = other.block_on(logto(&clock));
    let tokens = client_of(&issuer, &clock);
    let first = other.block_on(tokens.token(&read())).unwrap();
    clock.advance(Duration::from_secs(3590));
    blocked.block_on(async {
        assert_eq!(tokens.token(&read()).await.unwrap().secret(), first.secret());
        issuer.token_requested(2).await;
    });
    clock.advance(Duration::from_secs(11));
    let second = other.block_on(tokens.token(&read())).unwrap();
    // The blocked runtime processes the response to its token request only now. The token in this
    // response does not replace the token that the other runtime requested.
    blocked.block_on(background_tasks_done());
    let cached = other.block_on(tokens.token(&read())).unwrap();
    assert_eq!(cached.secret(), second.secret());
    assert_eq!(issuer.token_requests(), 3);
}

#[test]
fn token_request_is_retried_after_its_runtime_is_dropped() {
    let clock = ManualClock::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let issuer = first.block_on(logto(&clock));
    let tokens = client_of(&issuer, &clock);
    issuer.hang();
    let caller = tokens.clone();
    first.spawn(async move { caller.token(&read()).await });
    first.block_on(issuer.token_requested(1));
    drop(first);
    issuer.recover();
    clock.advance(Duration::from_secs(1));
    runtime().block_on(tokens.token(&read())).unwrap();
}

#[tokio::test]
async fn token_lifetime_below_one_second_does_not_cause_a_request_per_call() {
    let clock = ManualClock::default();
    let server = serve(|n, _| {
        let members = "\"expires_in\":0.2,\"token_type\":\"Bearer\",\"scope\":\"read:products\"";
        json("200 OK", &format!("{{\"access_token\":\"t{n}\",{members}}}"))
    });
    let tokens = client_at(&server).clock(clock.clone()).build().unwrap();
    for _ in 0..50 {
        tokens.token(&read()).await.unwrap();
        clock.advance(Duration::from_millis(20));
        background_tasks_done().await;
    }
    assert!(server.requests().len() <= 2, "{}", server.requests().len());
}

/// Some services read an organization id from the path of an incoming request, and request a token
/// for that organization. The callers of such a service can therefore choose any organization.
#[tokio::test]
async fn token_requests_for_invented_organizations_evict_no_token_and_are_limited() {
    let clock = ManualClock::default();
    let server = serve(|n, received| match received.body.contains("organization_id=missing") {
        true => json("403 Forbidden", "{\"error\":\"access_denied\"}"),
        false => granted(&format!("t{n}")),
    });
    let tokens = client_at(&server).clock(clock.clone()).token_cache_capacity(1).build().unwrap();
    tokens.token(&read()).await.unwrap();
    for number in 0..2_000 {
        let request = TokenRequest::organization(format!("missing-{number}"));
        let error = tokens.token(&request).await.unwrap_err();
        assert!(error.retry_after().is_some(), "{error}");
    }
    assert_eq!(server.requests().len(), 1 + 20);
    poll_once(tokens.token(&read())).expect("the token is still cached").unwrap();

    let overloaded = tokens.token(&TokenRequest::organization("missing-x")).await.unwrap_err();
    assert_eq!(overloaded.kind(), TokenRequestErrorKind::Overloaded);
    clock.advance(overloaded.retry_after().unwrap());
    let refused = tokens.token(&TokenRequest::organization("missing-x")).await.unwrap_err();
    assert_eq!(refused.code(), Some("access_denied"));
}
