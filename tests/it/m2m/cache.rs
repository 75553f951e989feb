//! One flight for many callers, refresh ahead, backoff, invalidation.

use std::{collections::HashSet, time::Duration};

use tower_logto::{
    Clock as _,
    m2m::{TokenClient, TokenRequest, TokenRequestErrorKind},
    testing::ManualClock,
};

use super::support::{
    SECRET, SHOPPING, Server, answer, at_once, background_tasks_done, client_of, granted, json,
    logto, read,
};

#[tokio::test]
async fn a_thousand_cold_callers_make_one_request_a_second_kind_makes_two() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    issuer.hang();
    let write = TokenRequest::resource(SHOPPING).scopes(["write:products"]);
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
async fn the_order_of_scopes_has_no_meaning() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let both = ["read:products", "write:products"];
    let request = TokenRequest::resource(SHOPPING).scopes(both);
    let reversed = TokenRequest::resource(SHOPPING).scopes(both.into_iter().rev()).scopes(both);
    let token = tokens.token(&request).await.unwrap();
    assert_eq!(at_once(tokens.token(&reversed)).unwrap().unwrap().secret(), token.secret());
    assert_eq!(issuer.token_requests(), 1);
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_fail_the_others() {
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
async fn a_simulated_day_of_one_hour_tokens() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let validator = issuer.validator(SHOPPING).unwrap();
    validator.warm_up().await.unwrap();
    tokens.token(&read()).await.unwrap();
    background_tasks_done().await;
    for _ in 0..24 * 60 * 4 {
        clock.advance(Duration::from_secs(15));
        let token = at_once(tokens.token(&read())).expect("no caller waits").unwrap();
        // A token at a verifier's without clock tolerance would still be good.
        assert!(token.expires_at() > std::time::UNIX_EPOCH + clock.unix_time());
        at_once(validator.validate(token.secret())).expect("no I/O").unwrap();
        background_tasks_done().await;
    }
    let requests = issuer.token_requests();
    println!("token requests in a day: {requests}");
    assert!((24..=26).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_token_that_nobody_asks_for_is_not_refreshed() {
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
async fn the_margin_is_a_tenth_of_a_short_life_and_at_most_60_s_of_a_long_one() {
    for (life, margin, not_yet, surely) in [
        (100, None, 84, 90),
        (3_600, None, 3_509, 3_541),
        (3_600, Some(600), 2_699, 3_001),
        (100, Some(600), 24, 51),
    ] {
        let clock = ManualClock::default();
        let server = Server::start(move |n, _| {
            let members = format!("\"expires_in\":{life},\"token_type\":\"Bearer\"");
            json("200 OK", &format!("{{\"access_token\":\"t{n}\",{members}}}"))
        })
        .await;
        let mut builder = server.client().clock(clock.clone());
        if let Some(margin) = margin {
            builder = builder.refresh_margin(Duration::from_secs(margin));
        }
        let tokens = builder.build().unwrap();
        let request = TokenRequest::resource(SHOPPING);
        tokens.token(&request).await.unwrap();
        for (seconds, requests) in [(not_yet, 1), (surely - not_yet, 2)] {
            clock.advance(Duration::from_secs(seconds));
            at_once(tokens.token(&request)).expect("no caller waits").unwrap();
            background_tasks_done().await;
            assert_eq!(server.received().len(), requests, "{life} {margin:?} {seconds}");
        }
    }
}

#[tokio::test]
async fn without_expires_in_a_token_is_kept_for_a_minute() {
    for expires_in in ["", "\"expires_in\":0,", "\"expires_in\":null,", "\"expires_in\":-5,"] {
        let clock = ManualClock::default();
        let server = Server::start(move |n, _| {
            let members = format!("{expires_in}\"token_type\":\"Bearer\"");
            json("200 OK", &format!("{{\"access_token\":\"t{n}\",{members}}}"))
        })
        .await;
        let tokens = server.client().clock(clock.clone()).build().unwrap();
        let request = TokenRequest::resource(SHOPPING);
        for (seconds, secret) in [(0, "t0"), (50, "t0"), (11, "t1"), (50, "t1")] {
            clock.advance(Duration::from_secs(seconds));
            assert_eq!(tokens.token(&request).await.unwrap().secret(), secret, "{expires_in}");
        }
    }
}

#[tokio::test]
async fn a_wall_clock_that_was_set_forward_ends_a_token_one_set_back_does_not_revive_it() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    // A laptop slept for two hours: the monotonic clock stood still.
    clock.set_unix_time(clock.unix_time() + Duration::from_secs(7_200));
    let second = tokens.token(&read()).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    clock.advance(Duration::from_secs(3_600));
    clock.set_unix_time(clock.unix_time() - Duration::from_secs(7_200));
    assert_ne!(tokens.token(&read()).await.unwrap().secret(), second.secret());
}

#[tokio::test]
async fn scopes_that_were_not_granted_are_an_error_unless_optional() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let wanted = ["read:products", "delete:products", "audit"];
    let error = tokens.token(&TokenRequest::resource(SHOPPING).scopes(wanted)).await.unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::MissingScopes);
    assert_eq!(error.missing_scopes().collect::<Vec<_>>(), ["audit", "delete:products"]);
    assert!(error.to_string().contains("\"audit delete:products\""), "{error}");
    assert!(error.hint().unwrap().contains("assign the app an M2M role"), "{error}");

    let optional = TokenRequest::resource(SHOPPING).optional_scopes(wanted);
    let token = tokens.token(&optional).await.unwrap();
    assert_eq!(token.scopes().iter().collect::<Vec<_>>(), ["read:products"]);
}

#[tokio::test]
async fn permanent_failures_are_not_hammered() {
    for (status, error) in
        [(401, "invalid_client"), (400, "invalid_target"), (403, "access_denied")]
    {
        let clock = ManualClock::default();
        let body = format!("{{\"error\":\"{error}\"}}");
        let server = Server::start(move |_, _| json(&format!("{status} x"), &body)).await;
        let tokens = server.client().clock(clock.clone()).build().unwrap();
        for second in 0..600 {
            let refusal = tokens.token(&read()).await.unwrap_err();
            assert_eq!(refusal.error(), Some(error));
            assert!(!refusal.is_retryable());
            if second == 0 {
                let wait = refusal.retry_after().unwrap();
                assert!(wait > Duration::from_secs(7) && wait <= Duration::from_secs(10));
            }
            clock.advance(Duration::from_secs(1));
        }
        let requests = server.received().len();
        assert!((6..=8).contains(&requests), "{error}: {requests}");
    }
}

#[tokio::test]
async fn rfc_9110_section_10_2_3_retry_after_is_honoured() {
    let clock = ManualClock::default();
    let server = Server::start(|n, _| match n {
        0 => answer("429 Too Many Requests", "retry-after: 120\r\n", ""),
        _ => granted("a"),
    })
    .await;
    let tokens = server.client().clock(clock.clone()).build().unwrap();
    let error = tokens.token(&read()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    clock.advance(Duration::from_secs(119));
    let error = at_once(tokens.token(&read())).unwrap().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(server.received().len(), 1);
    clock.advance(Duration::from_secs(1));
    tokens.token(&read()).await.unwrap();
}

#[tokio::test]
async fn only_the_token_that_is_named_is_invalidated() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let first = tokens.token(&read()).await.unwrap();
    tokens.invalidate(&first);
    let second = tokens.token(&read()).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    // The stragglers of the storm name the first one.
    (0..1_000).for_each(|_| tokens.invalidate(&first));
    assert_eq!(at_once(tokens.token(&read())).unwrap().unwrap().secret(), second.secret());
    // Another client's token is none of ours.
    let other = client_of(&issuer, &clock);
    other.invalidate(&second);
    assert_eq!(at_once(tokens.token(&read())).unwrap().unwrap().secret(), second.secret());
    assert_eq!(issuer.token_requests(), 2);
}

#[tokio::test]
async fn a_service_that_refuses_everything_costs_few_tokens() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    for _ in 0..3_600 {
        let token = tokens.token(&read()).await.unwrap();
        tokens.invalidate(&token);
        clock.advance(Duration::from_secs(1));
    }
    // At once, then after 10, 20, 40 … s, and every 10 min in the end.
    let requests = issuer.token_requests();
    assert!((8..=12).contains(&requests), "{requests}");
}

#[tokio::test]
async fn the_number_of_kinds_is_bounded() {
    let server = Server::start(|n, _| {
        json("200 OK", &format!("{{\"access_token\":\"t{n}\",\"token_type\":\"bearer\"}}"))
    })
    .await;
    let tokens = server.client().token_cache_capacity(10).build().unwrap();
    for n in 0..100 {
        tokens.token(&TokenRequest::organization(format!("o{n}"))).await.unwrap();
        // The newest ones stay, however full it is.
        let newest = at_once(tokens.token(&TokenRequest::organization(format!("o{n}"))));
        assert_eq!(newest.unwrap().unwrap().secret(), format!("t{n}"));
    }
    tokens.token(&TokenRequest::organization("o0")).await.unwrap();
    assert_eq!(server.received().len(), 101);
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let issuer = tower_logto::Issuer::logto("https://tenant.logto.app").unwrap();
    let tokens = TokenClient::new(&issuer, "app", SECRET).unwrap();
    let error = at_once(tokens.token(&read())).unwrap().unwrap_err();
    assert_eq!(error.kind(), TokenRequestErrorKind::NotSent);
}

#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    let clock = ManualClock::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (still, other) = (runtime(), runtime());
    let issuer = other.block_on(logto(&clock));
    let tokens = client_of(&issuer, &clock);
    let first = other.block_on(tokens.token(&read())).unwrap();
    clock.advance(Duration::from_secs(3590));
    still.block_on(async {
        assert_eq!(tokens.token(&read()).await.unwrap().secret(), first.secret());
        issuer.token_requested(2).await;
    });
    clock.advance(Duration::from_secs(11));
    let second = other.block_on(tokens.token(&read())).unwrap();
    // What comes after another flight has started takes nobody's place.
    still.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    let held = other.block_on(tokens.token(&read())).unwrap();
    assert_eq!(held.secret(), second.secret());
    assert_eq!(issuer.token_requests(), 3);
}

#[test]
fn a_runtime_that_goes_away_takes_no_flight_with_it() {
    let clock = ManualClock::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let issuer = first.block_on(logto(&clock));
    let tokens = client_of(&issuer, &clock);
    issuer.hang();
    let flying = tokens.clone();
    first.spawn(async move { flying.token(&read()).await });
    first.block_on(issuer.token_requested(1));
    drop(first);
    issuer.recover();
    clock.advance(Duration::from_secs(1));
    runtime().block_on(tokens.token(&read())).unwrap();
}
