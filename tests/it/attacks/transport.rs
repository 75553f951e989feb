//! Attacks that use the HTTP request, and attacks that target the HTTP response (RFC 6750 §2 and
//! §5).

use std::convert::Infallible;

use axum::{Router, extract::Request, routing::any};
use reqwest::RequestBuilder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_logto::{AccessToken, Anonymous, AuthError, AuthLayer, Require};

use super::{Refusals, Target};
use crate::support::{
    Harness,
    Outcome::{
        self, Accepted, Malformed, MalformedCredentials, MissingToken, NotAJwt, Oversized,
        SeveralAuthorizationHeaders, UntrustedIssuer,
    },
    Server, header, new_runtime,
};

/// Sends this text to the server, and returns the status and the whole response.
async fn send_raw(server: &Server, request: &str) -> (u16, String) {
    let address = server.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // Errors are ignored, because the server may reset the connection after its response.
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8_lossy(&response).into_owned();
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), response)
}

#[tokio::test]
async fn credentials_must_be_in_one_authorization_header() {
    let target = Target::start().await;
    let valid = target.token().build();
    let invalid = target.token().bad_signature().build();
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let half = valid.len() / 2;
    for (name, headers, expected) in [
        ("in mixed case", format!("aUTHORIZATION: bEARER {valid}"), Accepted),
        ("with spaces between", format!("Authorization: Bearer   {valid}"), Accepted),
        ("with trailing spaces", format!("Authorization: Bearer {valid}  \t"), Accepted),
        (
            "two headers with valid tokens",
            [bearer(&valid), bearer(&valid)].join("\r\n"),
            SeveralAuthorizationHeaders,
        ),
        (
            "a header with a valid token, then a header with an invalid token",
            [bearer(&valid), bearer(&invalid)].join("\r\n"),
            SeveralAuthorizationHeaders,
        ),
        (
            "a header with an invalid token, then a header with a valid token",
            [bearer(&invalid), bearer(&valid)].join("\r\n"),
            SeveralAuthorizationHeaders,
        ),
        (
            "Basic and Bearer",
            ["Authorization: Basic YTpi".into(), bearer(&valid)].join("\r\n"),
            SeveralAuthorizationHeaders,
        ),
        (
            "Bearer and an empty header",
            [bearer(&valid), "authorization:".into()].join("\r\n"),
            SeveralAuthorizationHeaders,
        ),
        (
            "two Bearer credentials in one header",
            format!("Authorization: Bearer {valid}, Bearer {valid}"),
            MalformedCredentials,
        ),
        ("two tokens", format!("Authorization: Bearer {valid} {valid}"), MalformedCredentials),
        ("with a tab between", format!("Authorization: Bearer\t{valid}"), MalformedCredentials),
        (
            "with a space and a tab between",
            format!("Authorization: Bearer \t{valid}"),
            MalformedCredentials,
        ),
        ("no space", format!("Authorization: Bearer{valid}"), MissingToken),
        ("a colon", format!("Authorization: Bearer: {valid}"), MissingToken),
        ("quoted", format!("Authorization: Bearer \"{valid}\""), MalformedCredentials),
        ("as a parameter", format!("Authorization: Bearer token={valid}"), MalformedCredentials),
        (
            "as access_token=",
            format!("Authorization: Bearer access_token={valid}"),
            MalformedCredentials,
        ),
        (
            "percent-encoded",
            format!("Authorization: Bearer {}", valid.replace('.', "%2E")),
            MalformedCredentials,
        ),
        (
            "split by a space",
            format!("Authorization: Bearer {} {}", &valid[..half], &valid[half..]),
            MalformedCredentials,
        ),
        (
            "with a non-ASCII character",
            format!("Authorization: Bearer {valid}\u{a0}"),
            MalformedCredentials,
        ),
        ("only the scheme", "Authorization: Bearer".into(), MalformedCredentials),
        ("an empty header", "Authorization:".into(), MissingToken),
        ("no scheme", format!("Authorization: {valid}"), MissingToken),
        ("DPoP", format!("Authorization: DPoP {valid}\r\nDPoP: {valid}"), MissingToken),
        ("Basic", format!("Authorization: Basic {valid}"), MissingToken),
        ("Token", format!("Authorization: Token {valid}"), MissingToken),
        ("Proxy-Authorization", format!("Proxy-Authorization: Bearer {valid}"), MissingToken),
        (
            "X-Forwarded-Authorization",
            format!("X-Forwarded-Authorization: Bearer {valid}"),
            MissingToken,
        ),
        ("X-Access-Token", format!("X-Access-Token: {valid}"), MissingToken),
        (
            "a cookie",
            format!("Cookie: access_token={valid}; Authorization=Bearer {valid}"),
            MissingToken,
        ),
        ("a WebSocket protocol", format!("Sec-WebSocket-Protocol: bearer, {valid}"), MissingToken),
        ("Authorization_", format!("Authorization_: Bearer {valid}"), MissingToken),
    ] {
        println!("attack: {name}");
        let request =
            format!("GET / HTTP/1.1\r\nHost: shop\r\n{headers}\r\nConnection: close\r\n\r\n");
        target.refusals.clear();
        let (status, response) = send_raw(&target.server, &request).await;
        assert_eq!(target.refusals.outcome(), expected, "{name}");
        assert_eq!(status, expected.status(), "{name}: {response}");
        assert!(!response.contains(&valid[..half]), "{name}");
    }
    // The HTTP server refuses malformed requests before they reach the layer.
    for (name, headers) in [
        ("a folded header", format!("Authorization: Bearer\r\n {valid}")),
        ("a space before the colon", format!("Authorization : Bearer {valid}")),
        ("a NUL", format!("Authorization: Bearer {valid}\0")),
    ] {
        println!("attack: {name}");
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\nConnection: close\r\n\r\n");
        assert_eq!(send_raw(&target.server, &request).await.0, 400, "{name}");
    }
    // A token in a trailer is ignored, because a trailer is not a header.
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\
         Connection: close\r\n\r\n0\r\nAuthorization: Bearer {valid}\r\n\r\n"
    );
    assert_eq!(send_raw(&target.server, &request).await.0, 401);
}

#[tokio::test]
async fn credentials_that_are_not_utf_8_are_malformed() {
    let target = Target::start().await;
    let valid = target.token().build();
    let layer = AuthLayer::new(target.validator.clone());
    for (name, token) in [
        ("one byte", b"\xff".to_vec()),
        ("a byte before a valid token", [b"\xff", valid.as_bytes()].concat()),
        ("a byte after a valid token", [valid.as_bytes(), b"\xff"].concat()),
    ] {
        let authorization = [b"Bearer ".as_slice(), &token].concat();
        let request = http::Request::get("/").header("authorization", authorization);
        let service = layer.layer(service_fn(async |_: http::Request<()>| {
            Ok::<_, Infallible>(http::Response::new(()))
        }));
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        assert_eq!(response.status(), MalformedCredentials.status(), "{name}");
    }
}

#[tokio::test]
async fn token_in_query_or_body_is_ignored() {
    let target = Target::start().await;
    let valid = target.token().build();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let get = |path: String| target.server.request("GET", &path);
    let post = |body: String| target.server.request("POST", "/").header(form.0, form.1).body(body);
    for (name, request) in [
        ("?access_token", get(format!("/?access_token={valid}"))),
        ("?access_token=Bearer", get(format!("/?access_token=Bearer%20{valid}"))),
        ("?authorization", get(format!("/?authorization=Bearer+{valid}"))),
        ("?token", get(format!("/?token={valid}"))),
        ("a form", post(format!("access_token={valid}"))),
        (
            "JSON",
            target.server.request("POST", "/").body(format!("{{\"access_token\":{valid:?}}}")),
        ),
    ] {
        println!("attack: {name}");
        target.assert_outcome(request, &valid, MissingToken, name).await;
    }
    // If the request has valid credentials, a token in the query has no effect.
    let both = get(format!("/?access_token={valid}")).bearer_auth(&valid);
    target.assert_outcome(both, &valid, Accepted, "a token in the query and a valid one").await;
}

#[tokio::test]
async fn oversized_token_is_refused() {
    let target = Target::start().await;
    let dots = format!("{}.{}.{}", "a".repeat(400_000), "b".repeat(400_000), "c".repeat(200_000));
    let padded = target.token().claim("x", "x".repeat(750_000)).build();
    for (name, token) in
        [("letters", &"a".repeat(1_000_000)), ("segments", &dots), ("signed", &padded)]
    {
        println!("attack: a megabyte of {name}");
        let refusal = target.validator.try_validate(token).unwrap().unwrap_err();
        assert_eq!(Outcome::of_error(&refusal), Oversized);
        // hyper has its own size limit, which applies before the limit of the layer.
        let sent = target.server.request("GET", "/").bearer_auth(token).send().await;
        assert!(sent.is_err() || sent.is_ok_and(|response| response.status() == 431), "{name}");
    }
    let size = |limit: usize| {
        let token = target.token().claim("x", "").build();
        // Base64url needs four characters for three bytes.
        let more = (limit - token.len()) / 4 * 3;
        target.token().claim("x", "x".repeat(more)).build()
    };
    let (under, over) = (size(16 * 1024), size(16 * 1024 + 8));
    assert!((16_375..=16_384).contains(&under.len()) && over.len() > 16_384);
    target
        .assert_outcomes([
            ("just below the limit", under, Accepted),
            ("just above the limit", over, Oversized),
            ("100 KB", target.token().claim("x", "x".repeat(100_000)).build(), Oversized),
            ("ten thousand dots", ".".repeat(10_000), NotAJwt),
            ("only dots", "..".into(), Malformed),
        ])
        .await;
}

#[tokio::test]
async fn token_text_is_not_injected_into_the_response() {
    let target = Target::start().await;
    let malicious = "x\r\nSet-Cookie: a=b\r\n\r\n<script>\"\\, error=\"nothing\", scope=\"admin\"";
    let attacks = [
        target.token().kid(malicious),
        target.token().typ(malicious),
        target.token().header("alg", malicious),
        target.token().claim("iss", malicious),
        target.token().claim("aud", malicious),
        target.token().claim("scope", malicious),
        target.token().claim("organization_id", malicious),
    ];
    for (number, token) in attacks.into_iter().enumerate() {
        println!("attack: injection {number}");
        let token = token.build();
        let response = target.server.get("/read", &token).await;
        assert!(matches!(response.status().as_u16(), 401 | 403), "{number}");
        assert!(!response.headers().contains_key("set-cookie"));
        let challenge = header(response.headers(), "www-authenticate");
        assert!(!challenge.contains("<script") && !challenge.contains("nothing"), "{challenge}");
        let scope = challenge.matches("scope=").count();
        assert!(scope <= 1 && !challenge.contains("admin"), "{challenge}");
    }
    // Settings that appear in the challenge are checked when the validator or the guard is built.
    for realm in ["shop\r\nSet-Cookie: a=b", "shop\", error=\"none", "sh\\op", "sh\u{f6}p", ""] {
        let error = target.harness.builder().realm(realm).build().unwrap_err();
        assert_eq!(error.setting(), "realm", "{realm:?}");
    }
    for url in ["https://shop\r\n.example", "https://shop.example/\"", "javascript:alert(1)"] {
        let error = target.harness.builder().resource_metadata(url).build().unwrap_err();
        assert_eq!(error.setting(), "resource_metadata", "{url:?}");
    }
    for scope in ["a\r\nb", "a\"b", "a\\b", "a b", "\u{e9}", ""] {
        let guard = std::panic::catch_unwind(|| Require::global().scopes([scope]));
        assert!(guard.is_err(), "{scope:?}");
    }
}

#[tokio::test]
async fn request_header_cannot_forge_the_token_extension() {
    let harness = Harness::start().await;
    let open = || any(async || "accepted");
    let shown = any(async |request: Request| {
        let token = request.extensions().get::<AccessToken>().is_some();
        let anonymous = request.extensions().get::<Anonymous>().is_some();
        format!("token: {token}, anonymous: {anonymous}")
    });
    let router = Router::new()
        .route("/shown", shown)
        .route("/extractor", any(async |_: AccessToken| "accepted"))
        .merge(Router::new().route("/guarded", open()).route_layer(Require::global().scopes(["a"])))
        .route_layer(AuthLayer::new(harness.validator()).optional())
        .merge(
            Router::new().route("/no-layer", open()).route_layer(Require::global().scopes(["a"])),
        );
    let server = Server::start(router).await;
    let forged = |request: RequestBuilder| {
        let request = request
            .header("accesstoken", "admin")
            .header("x-access-token", "admin")
            .header("tower-logto-accesstoken", "admin")
            .header("x-extensions", "AccessToken")
            .header("x-user-id", "admin")
            .header("x-forwarded-user", "admin")
            .header("x-http-method-override", "OPTIONS")
            .header("x-original-method", "OPTIONS");
        request.header("origin", "https://x").header("access-control-request-method", "GET")
    };
    for (path, status) in [("/extractor", 401), ("/guarded", 401), ("/no-layer", 500)] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            println!("attack: forged extension, {method} {path}");
            let response = forged(server.request(method, path)).send().await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
        }
    }
    let response = forged(server.request("GET", "/shown")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "token: false, anonymous: true");
}

#[tokio::test]
async fn inner_layer_ignores_the_token_of_the_outer_layer() {
    let (outer, inner) = (Harness::start().await, Harness::start().await);
    let issuer = any(async |token: Option<AccessToken>| {
        token.map_or("anonymous".to_owned(), |token| token.issuer().to_owned())
    });
    let router = Router::new()
        .merge(
            Router::new()
                .route("/strict", issuer.clone())
                .route_layer(AuthLayer::new(inner.validator())),
        )
        .merge(
            Router::new()
                .route("/optional", issuer)
                .route_layer(AuthLayer::new(inner.validator()).optional())
                // This middleware runs between the outer and the inner `AuthLayer`. It removes the
                // credentials, so the inner layer receives a request without a token.
                .layer(axum::middleware::map_request(async |mut request: Request| {
                    request.headers_mut().remove("authorization");
                    request
                })),
        )
        .route_layer(AuthLayer::new(outer.validator()));
    let refusals = Refusals::default();
    let server = Server::start(refusals.record(router)).await;
    let theirs = outer.token().build();
    let response = server.get("/strict", &theirs).await;
    assert_eq!(response.status(), 401);
    assert_eq!(refusals.outcome(), UntrustedIssuer);
    let response = server.get("/optional", &theirs).await;
    assert_eq!(response.text().await.unwrap(), "anonymous");
}

/// Proxies, caches and rate limiters act on the status of a refusal, so the caller must not be able
/// to choose this status. For example, if the layer responds with 200, a forward-authentication
/// proxy accepts the request.
#[tokio::test]
async fn content_type_alone_does_not_turn_a_refusal_into_200() {
    let target = Target::start().await;
    let invalid = target.token().bad_signature().build();
    for (method, content_type, te) in [
        ("GET", "application/grpc", Some("trailers")),
        ("HEAD", "application/grpc", Some("trailers")),
        ("PUT", "application/grpc+proto", Some("trailers")),
        ("OPTIONS", "application/grpc", Some("trailers")),
        ("POST", "application/grpc", None),
        ("POST", "application/grpc", Some("gzip")),
        ("POST", "application/grpcish", Some("trailers")),
        ("POST", "application/grpc-web", Some("trailers")),
        ("POST", "application/json, application/grpc", Some("trailers")),
        ("POST", "text/plain", Some("trailers")),
    ] {
        println!("attack: {method} {content_type} {te:?}");
        for token in [None, Some(&invalid)] {
            let request = target.server.request(method, "/").header("content-type", content_type);
            let request = te.into_iter().fold(request, |request, te| request.header("te", te));
            let request = token.into_iter().fold(request, RequestBuilder::bearer_auth);
            let status = request.send().await.unwrap().status();
            assert_eq!(status, 401, "{method} {content_type} {te:?}");
        }
    }
}

#[tokio::test]
async fn authorization_header_is_marked_sensitive_for_inner_services() {
    let target = Target::start().await;
    let valid = target.token().build();
    let response = target.server.get("/echo", &valid).await;
    let shown = response.text().await.unwrap();
    assert!(shown.contains("\"authorization\": Sensitive"), "{shown}");
    assert!(!shown.contains(&valid[..40]));
}

#[test]
fn debug_and_display_output_of_a_refusal_do_not_contain_the_token() {
    let target = new_runtime().block_on(Target::start());
    let token = target.token().kid("k".repeat(2000)).typ("t".repeat(2000)).build();
    let refusal: AuthError = target.validator.try_validate(&token).unwrap().unwrap_err();
    for shown in [format!("{refusal:?}"), refusal.to_string(), format!("{:?}", refusal.kind())] {
        assert!(shown.len() < 300, "{shown}");
        assert!(token.split('.').all(|part| !shown.contains(part)), "{shown}");
    }
    assert_eq!(refusal.challenge().map(|value| value.len() < 300), Some(true));
}
