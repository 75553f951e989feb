//! The key set over HTTP, discovery, and key rotation.

use super::*;

async fn get(issuer: &TestIssuer, etag: Option<&str>) -> Response {
    let mut request = client().get(issuer.jwks_uri());
    if let Some(etag) = etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn key_set_response_has_logtos_headers_and_etag() {
    let (issuer, ..) = start().await;
    let response = get(&issuer, None).await;
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "application/jwk-set+json; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache, max-age=0, must-revalidate");
    assert_eq!(response.text().await.unwrap(), issuer.jwks());

    let etag = headers[header::ETAG].to_str().unwrap();
    for same in [etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let response = get(&issuer, Some(same)).await;
        assert_eq!(response.status(), 304, "{same}");
        assert_eq!(response.headers()[header::ETAG], etag);
    }
    assert_eq!((issuer.jwks_requests(), issuer.not_modified()), (5, 4));
    issuer.rotate();
    assert_eq!(get(&issuer, Some(etag)).await.status(), 200);
}

#[tokio::test]
async fn captured_key_set_gets_the_captured_etag() {
    let (issuer, ..) = start().await;
    for name in ["jwks-gzip", "jwks-two-keys"] {
        let (head, body) = captured(&format!("jwks/{name}"));
        issuer.publish(body);
        let response = get(&issuer, None).await;
        let etag = text(&response, &header::ETAG).unwrap();
        assert!(head.contains(&format!("ETag: {etag}\n")), "{name}: {etag}");
    }
    issuer.recover();
    assert!(issuer.jwks().contains(&issuer.current_kid()));
}

#[tokio::test]
async fn discovery_urls_follow_the_host_header_but_issuer_does_not() {
    let (issuer, ..) = start().await;
    let url = format!("{}/.well-known/openid-configuration", issuer.issuer());
    let request = client().get(url).header(header::HOST, "logto:3001");
    let metadata: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["issuer"], issuer.issuer().as_str());
    assert_eq!(metadata["jwks_uri"], "http://logto:3001/oidc/jwks");
    assert_eq!(metadata["token_endpoint"], "http://logto:3001/oidc/token");
}

fn published(issuer: &TestIssuer) -> Vec<String> {
    let set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn only_current_next_and_previous_key_are_published() {
    let issuer = TestIssuer::builder()
        .signing_key(SigningKey::generate(Algorithm::ES256))
        .start()
        .await
        .unwrap();
    let first = issuer.current_kid();
    issuer.rotate();
    let second = issuer.current_kid();
    assert_eq!(issuer.signing_key().algorithm(), Algorithm::ES256);
    assert_eq!(published(&issuer), [second.clone(), first.clone()]);
    issuer.stage(Algorithm::ES384);
    let staged = published(&issuer);
    assert_eq!((staged.len(), &staged[0], &staged[2]), (3, &second, &first));
    assert_eq!(issuer.current_kid(), second);
    issuer.promote();
    assert_eq!(issuer.current_kid(), staged[1]);
    assert_eq!(published(&issuer), [staged[1].clone(), second]);
    issuer.delete_previous();
    assert_eq!(published(&issuer), [staged[1].clone()]);
}

#[tokio::test]
async fn validator_follows_rotation() {
    let (issuer, validator, clock) = start().await;
    let old = issuer.token().build();
    validator.validate(&old).await.unwrap();
    issuer.rotate_to(Algorithm::PS256);
    validator.validate(&issuer.token().build()).await.unwrap();
    validator.validate(&old).await.unwrap();
    assert_eq!(issuer.jwks_requests(), 2);
    issuer.delete_previous();
    issuer.rotate();
    issuer.delete_previous();
    clock.advance(Duration::from_secs(60));
    let outcome = validator.validate(&old).await;
    assert!(outcome.is_ok(), "the validator has not refreshed the keys yet");
    validator.validate(&issuer.token().build()).await.unwrap();
    assert_eq!(validator.validate(&old).await.unwrap_err().status(), 401);
}
