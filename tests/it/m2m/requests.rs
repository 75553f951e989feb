//! Tests of token requests, client authentication, and the settings of the token client. One test
//! checks that the token client does not send invalid token requests.

use tower_logto::{
    Issuer,
    m2m::{ClientAuthentication, ClientSecret, TokenClient, TokenRequest, TokenRequestErrorKind},
    testing::{ManualClock, TestApp, TestIssuer},
};

use super::support::{SECRET, client_at, client_of, granted, logto, read, response, secret, serve};
use crate::support::{SHOPPING_API, poll_once};

#[tokio::test]
async fn each_kind_of_token_request_yields_the_matching_kind_of_token() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let validator = tower_logto::Validator::builder()
        .trust(issuer.trusted(SHOPPING_API).organizations().audience(TestIssuer::MANAGEMENT_API))
        .clock(clock.clone())
        .build()
        .unwrap();
    for (request, audience, organization, scope) in [
        (read(), SHOPPING_API, None, "read:products"),
        (
            TokenRequest::organization("acme").scopes(["invite:member"]),
            "urn:logto:organization:acme",
            Some("acme"),
            "invite:member",
        ),
        (
            TokenRequest::resource(SHOPPING_API).in_organization("acme").scopes(["read:orders"]),
            SHOPPING_API,
            Some("acme"),
            "read:orders",
        ),
        (TokenRequest::self_hosted_management_api(), TestIssuer::MANAGEMENT_API, None, "all"),
    ] {
        let token = tokens.token(&request).await.unwrap();
        assert_eq!(token.scopes().as_str(), scope);
        let token = validator.validate(token.secret()).await.unwrap();
        assert_eq!(token.audiences().collect::<Vec<_>>(), [audience]);
        assert_eq!(token.organization_id(), organization);
        assert_eq!(token.scopes().as_str(), scope);
        assert!(token.is_machine());
    }
}

#[tokio::test]
async fn rfc_6749_section_2_3_1_any_ascii_secret_works_with_both_methods() {
    for secret in [
        "plus+percent%colon:amp&equals=slash/",
        "a secret with spaces",
        " +%3A%2B&& ",
        "client_secret=x&grant_type=password",
    ] {
        let app = TestApp::new("app: 1+1", secret).grant(SHOPPING_API, ["read:products"]);
        let issuer = TestIssuer::builder().app(app).start().await.unwrap();
        for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
            let tokens =
                TokenClient::builder(&issuer.issuer(), "app: 1+1", ClientSecret::new(secret))
                    .authentication(authentication)
                    .build()
                    .unwrap();
            let token = tokens.token(&read()).await;
            assert!(token.is_ok(), "{secret:?} by {authentication:?}: {token:?}");
        }
    }
}

#[tokio::test]
async fn secret_is_sent_with_one_authentication_method_only() {
    let server = serve(|_, _| granted("a"));
    for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
        let tokens = client_at(&server).authentication(authentication).build().unwrap();
        tokens.token(&read()).await.unwrap();
    }
    let [basic, post] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
    assert!(basic.head.starts_with("POST /oidc/token HTTP/1.1\r\n"), "{}", basic.head);
    assert!(basic.head.to_lowercase().contains("\r\nauthorization: basic "), "{}", basic.head);
    let parameters = "grant_type=client_credentials&resource=https%3A%2F%2Fshopping.api\
                      &scope=read%3Aproducts";
    assert_eq!(basic.body, parameters);
    assert!(!post.head.to_lowercase().contains("authorization"), "{}", post.head);
    assert_eq!(post.body, format!("{parameters}&client_id=app&client_secret={SECRET}"));
}

#[tokio::test]
async fn invalid_token_request_is_refused_before_any_io() {
    let server = serve(|_, _| granted("a"));
    let tokens = client_at(&server).build().unwrap();
    for request in [
        TokenRequest::resource(""),
        TokenRequest::organization(""),
        TokenRequest::resource(SHOPPING_API).scopes(["read:products write:products"]),
        TokenRequest::resource("urn:logto:resource:organizations"),
    ] {
        let error = poll_once(tokens.token(&request)).unwrap().unwrap_err();
        assert_eq!(error.kind(), TokenRequestErrorKind::NotSent);
        assert!(!error.is_retryable());
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = serve(|_, _| granted("stolen"));
    for status in ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: {}/oidc/token\r\n", elsewhere.url());
        let server = serve(move |_, _| response(status, &location, ""));
        // The token client must not follow redirects, although this `ClientBuilder` enables them.
        let follow = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5));
        let tokens = client_at(&server).http_client_builder(follow).build().unwrap();
        let error = tokens.token(&read()).await.unwrap_err();
        assert!(error.to_string().contains("redirects are not followed"), "{error}");
        assert!(!error.is_retryable());
    }
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn error_contains_the_name_of_the_invalid_setting() {
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let good = || TokenClient::builder(&issuer, "app", secret());
    good().build().unwrap();
    good().token_endpoint("http://logto:3001/t").dangerously_allow_http().build().unwrap();
    for (builder, setting) in [
        (TokenClient::builder(&issuer, "", secret()), "app_id"),
        (TokenClient::builder(&issuer, "app", ClientSecret::new(" ")), "app_secret"),
        (good().token_endpoint("http://logto:3001/oidc/token"), "token_endpoint"),
        (good().token_endpoint("https://user:pass@logto/oidc/token"), "token_endpoint"),
        (good().timeout(std::time::Duration::ZERO), "timeout"),
        (good().token_cache_capacity(0), "token_cache_capacity"),
    ] {
        let text = format!("{builder:?}");
        assert!(!text.contains(SECRET), "{text}");
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
}

#[tokio::test]
async fn authorize_leaves_exactly_one_authorization_header() {
    let clock = ManualClock::default();
    let issuer = logto(&clock).await;
    let tokens = client_of(&issuer, &clock);
    let get = reqwest::Client::builder().build().unwrap().get("http://127.0.0.1/");
    // The request already has an `Authorization` header, for example from a first attempt.
    let get = get.bearer_auth("another");
    let request = tokens.authorize(get, &read()).await.unwrap().build().unwrap();
    assert_eq!(request.headers().get_all("authorization").iter().count(), 1);
    let header = &request.headers()["authorization"];
    assert!(header.is_sensitive());
    let token = tokens.token(&read()).await.unwrap();
    assert_eq!(header.to_str().unwrap(), format!("Bearer {}", token.secret()));
    assert_eq!(header, token.authorization());
}
