//! Attacks on the way in and on the way out (RFC 6750 §2 and §5).

use axum::{Router, extract::Request, routing::any};
use reqwest::RequestBuilder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_logto::{
    AccessToken, Anonymous, AuthError, AuthLayer, Require,
    error::{AuthErrorKind, InvalidToken},
};

use super::{LET_IN, OVERSIZED, Target, show_reason};
use crate::support::{SHOP, Server, Stage, header};

const MISSING: &str = "MissingToken";
const SEVERAL: &str = "InvalidRequest(SeveralAuthorizationHeaders)";
const CREDENTIALS: &str = "InvalidRequest(MalformedCredentials)";

/// Sends these bytes as they are; the status and the whole answer.
async fn raw(server: &Server, request: &str) -> (u16, String) {
    let address = server.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

#[tokio::test]
async fn credentials_in_odd_headers() {
    let target = Target::set().await;
    let good = target.token().build();
    let bad = target.token().bad_signature().build();
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let half = good.len() / 2;
    for (name, headers, reason) in [
        ("in mixed case", format!("aUTHORIZATION: bEARER {good}"), LET_IN),
        ("with spaces between", format!("Authorization: Bearer   {good}"), LET_IN),
        ("with spaces behind", format!("Authorization: Bearer {good}  \t"), LET_IN),
        ("two good ones", [bearer(&good), bearer(&good)].join("\r\n"), SEVERAL),
        ("a good one and a bad one", [bearer(&good), bearer(&bad)].join("\r\n"), SEVERAL),
        ("a bad one and a good one", [bearer(&bad), bearer(&good)].join("\r\n"), SEVERAL),
        (
            "Basic and Bearer",
            ["Authorization: Basic YTpi".into(), bearer(&good)].join("\r\n"),
            SEVERAL,
        ),
        ("Bearer and nothing", [bearer(&good), "authorization:".into()].join("\r\n"), SEVERAL),
        ("two in one header", format!("Authorization: Bearer {good}, Bearer {good}"), CREDENTIALS),
        ("two tokens", format!("Authorization: Bearer {good} {good}"), CREDENTIALS),
        ("a tab between", format!("Authorization: Bearer\t{good}"), MISSING),
        ("a space and a tab between", format!("Authorization: Bearer \t{good}"), CREDENTIALS),
        ("no space", format!("Authorization: Bearer{good}"), MISSING),
        ("a colon", format!("Authorization: Bearer: {good}"), MISSING),
        ("quoted", format!("Authorization: Bearer \"{good}\""), CREDENTIALS),
        ("as a parameter", format!("Authorization: Bearer token={good}"), CREDENTIALS),
        ("as access_token=", format!("Authorization: Bearer access_token={good}"), CREDENTIALS),
        (
            "percent-encoded",
            format!("Authorization: Bearer {}", good.replace('.', "%2E")),
            CREDENTIALS,
        ),
        (
            "cut by a space",
            format!("Authorization: Bearer {} {}", &good[..half], &good[half..]),
            CREDENTIALS,
        ),
        ("beyond ASCII", format!("Authorization: Bearer {good}\u{a0}"), CREDENTIALS),
        ("the scheme alone", "Authorization: Bearer".into(), CREDENTIALS),
        ("an empty header", "Authorization:".into(), MISSING),
        ("no scheme", format!("Authorization: {good}"), MISSING),
        ("DPoP", format!("Authorization: DPoP {good}\r\nDPoP: {good}"), MISSING),
        ("Basic", format!("Authorization: Basic {good}"), MISSING),
        ("Token", format!("Authorization: Token {good}"), MISSING),
        ("Proxy-Authorization", format!("Proxy-Authorization: Bearer {good}"), MISSING),
        ("X-Forwarded-Authorization", format!("X-Forwarded-Authorization: Bearer {good}"), MISSING),
        ("X-Access-Token", format!("X-Access-Token: {good}"), MISSING),
        ("a cookie", format!("Cookie: access_token={good}; Authorization=Bearer {good}"), MISSING),
        ("a WebSocket's protocol", format!("Sec-WebSocket-Protocol: bearer, {good}"), MISSING),
        ("Authorization_", format!("Authorization_: Bearer {good}"), MISSING),
    ] {
        println!("attack: {name}");
        let request =
            format!("GET / HTTP/1.1\r\nHost: shop\r\n{headers}\r\nConnection: close\r\n\r\n");
        let (status, answer) = raw(&target.server, &request).await;
        assert_eq!(status, super::status_of(reason), "{name}: {answer}");
        let shown = answer.lines().find_map(|line| line.strip_prefix("x-reason: "));
        assert!(shown.unwrap_or_default().starts_with(reason), "{name}: {shown:?}");
        assert!(!answer.contains(&good[..half]), "{name}");
    }
    // What is no HTTP is refused in front of the layer.
    for (name, headers) in [
        ("a folded header", format!("Authorization: Bearer\r\n {good}")),
        ("a space before the colon", format!("Authorization : Bearer {good}")),
        ("a NUL", format!("Authorization: Bearer {good}\0")),
    ] {
        println!("attack: {name}");
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\nConnection: close\r\n\r\n");
        assert_eq!(raw(&target.server, &request).await.0, 400, "{name}");
    }
    // A trailer is no header.
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\
         Connection: close\r\n\r\n0\r\nAuthorization: Bearer {good}\r\n\r\n"
    );
    assert_eq!(raw(&target.server, &request).await.0, 401);
}

#[tokio::test]
async fn a_token_in_query_or_body_is_not_read() {
    let target = Target::set().await;
    let good = target.token().build();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let get = |path: String| target.server.request("GET", &path);
    let post = |body: String| target.server.request("POST", "/").header(form.0, form.1).body(body);
    for (name, request) in [
        ("?access_token", get(format!("/?access_token={good}"))),
        ("?access_token=Bearer", get(format!("/?access_token=Bearer%20{good}"))),
        ("?authorization", get(format!("/?authorization=Bearer+{good}"))),
        ("?token", get(format!("/?token={good}"))),
        ("a form", post(format!("access_token={good}"))),
        ("JSON", target.server.request("POST", "/").body(format!("{{\"access_token\":{good:?}}}"))),
    ] {
        println!("attack: {name}");
        target.answer_to(request, &good).await.is_owed(MISSING, name);
    }
    // And beside a good one it changes nothing.
    let both = get(format!("/?access_token={good}")).bearer_auth(&good);
    target.answer_to(both, &good).await.is_owed(LET_IN, "a token in the query beside a good one");
}

#[tokio::test]
async fn tokens_of_a_megabyte() {
    let target = Target::set().await;
    let dots = format!("{}.{}.{}", "a".repeat(400_000), "b".repeat(400_000), "c".repeat(200_000));
    let padded = target.token().claim("x", "x".repeat(750_000)).build();
    for (name, token) in
        [("letters", &"a".repeat(1_000_000)), ("segments", &dots), ("signed", &padded)]
    {
        println!("attack: a megabyte of {name}");
        let refusal = target.validator.try_validate(token).unwrap().unwrap_err();
        let AuthErrorKind::InvalidToken(reason) = refusal.kind() else { panic!("{refusal:?}") };
        assert_eq!(*reason, InvalidToken::Oversized);
        // hyper has a limit of its own in front of the layer's.
        let sent = target.server.request("GET", "/").bearer_auth(token).send().await;
        assert!(sent.is_err() || sent.is_ok_and(|answer| answer.status() == 431), "{name}");
    }
    let size = |limit: usize| {
        let token = target.token().claim("x", "").build();
        // Four characters for each three bytes.
        let more = (limit - token.len()) / 4 * 3;
        target.token().claim("x", "x".repeat(more)).build()
    };
    let (under, over) = (size(16 * 1024), size(16 * 1024 + 8));
    assert!((16_375..=16_384).contains(&under.len()) && over.len() > 16_384);
    target
        .repel([
            ("just under the limit", under, LET_IN),
            ("just over the limit", over, OVERSIZED),
            ("100 KB", target.token().claim("x", "x".repeat(100_000)).build(), OVERSIZED),
            ("ten thousand dots", ".".repeat(10_000), "InvalidToken(NotAJwt)"),
            ("dots alone", "..".into(), super::MALFORMED),
        ])
        .await;
}

#[tokio::test]
async fn nothing_is_injected_into_an_answer() {
    let target = Target::set().await;
    let nasty = "x\r\nSet-Cookie: a=b\r\n\r\n<script>\"\\, error=\"nothing\", scope=\"admin\"";
    let attacks = [
        target.token().kid(nasty),
        target.token().typ(nasty),
        target.token().header("alg", nasty),
        target.token().claim("iss", nasty),
        target.token().claim("aud", nasty),
        target.token().claim("scope", nasty),
        target.token().claim("organization_id", nasty),
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
    // Nor by settings.
    for realm in ["shop\r\nSet-Cookie: a=b", "shop\", error=\"none", "sh\\op", "sh\u{f6}p", ""] {
        let error = target.stage.builder().realm(realm).build().unwrap_err();
        assert_eq!(error.setting(), "realm", "{realm:?}");
    }
    for url in ["https://shop\r\n.example", "https://shop.example/\"", "javascript:alert(1)"] {
        let error = target.stage.builder().resource_metadata(url).build().unwrap_err();
        assert_eq!(error.setting(), "resource_metadata", "{url:?}");
    }
    for scope in ["a\r\nb", "a\"b", "a\\b", "a b", "\u{e9}", ""] {
        let guard = std::panic::catch_unwind(|| Require::global().scopes([scope]));
        assert!(guard.is_err(), "{scope:?}");
    }
}

#[tokio::test]
async fn a_client_cannot_forge_what_the_layer_leaves() {
    let stage = Stage::set().await;
    let open = || any(async || "in");
    let shown = any(async |request: Request| {
        let token = request.extensions().get::<AccessToken>().is_some();
        let anonymous = request.extensions().get::<Anonymous>().is_some();
        format!("token: {token}, anonymous: {anonymous}")
    });
    let router = Router::new()
        .route("/shown", shown)
        .route("/extractor", any(async |_: AccessToken| "in"))
        .merge(Router::new().route("/guarded", open()).route_layer(Require::global().scopes(["a"])))
        .route_layer(AuthLayer::new(stage.validator()).optional())
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
            println!("attack: forged extensions, {method} {path}");
            let response = forged(server.request(method, path)).send().await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
        }
    }
    let response = forged(server.request("GET", "/shown")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "token: false, anonymous: true");
}

#[tokio::test]
async fn an_inner_layer_does_not_take_the_outer_ones_word() {
    let (outer, inner) = (Stage::set().await, Stage::set().await);
    let who = any(async |token: Option<AccessToken>| {
        token.map_or("nobody".to_owned(), |token| token.issuer().to_owned())
    });
    let router = Router::new()
        .merge(
            Router::new()
                .route("/strict", who.clone())
                .route_layer(AuthLayer::new(inner.validator())),
        )
        .merge(
            Router::new()
                .route("/optional", who)
                .route_layer(AuthLayer::new(inner.validator()).optional())
                // Takes the credentials away between the two.
                .layer(axum::middleware::map_request(async |mut request: Request| {
                    request.headers_mut().remove("authorization");
                    request
                })),
        )
        .route_layer(AuthLayer::new(outer.validator()))
        .layer(axum::middleware::map_response(show_reason));
    let server = Server::start(router).await;
    let theirs = outer.logto.token().audience(SHOP).build();
    let response = server.get("/strict", &theirs).await;
    assert_eq!(response.status(), 401);
    assert!(header(response.headers(), "x-reason").starts_with("InvalidToken(UntrustedIssuer"));
    let response = server.get("/optional", &theirs).await;
    assert_eq!(response.text().await.unwrap(), "nobody");
}

/// The status of a refusal is for proxies, caches and rate limits to see, so the caller must not
/// choose it: a forward-auth proxy lets in what gets a 200.
#[tokio::test]
async fn a_content_type_does_not_turn_a_refusal_into_200() {
    let target = Target::set().await;
    let bad = target.token().bad_signature().build();
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
        for token in [None, Some(&bad)] {
            let request = target.server.request(method, "/").header("content-type", content_type);
            let request = te.into_iter().fold(request, |request, te| request.header("te", te));
            let request = token.into_iter().fold(request, RequestBuilder::bearer_auth);
            let status = request.send().await.unwrap().status();
            assert_eq!(status, 401, "{method} {content_type} {te:?}");
        }
    }
}

#[tokio::test]
async fn the_credentials_are_marked_sensitive_for_those_inside() {
    let target = Target::set().await;
    let good = target.token().build();
    let response = target.server.get("/echo", &good).await;
    let shown = response.text().await.unwrap();
    assert!(shown.contains("\"authorization\": Sensitive"), "{shown}");
    assert!(!shown.contains(&good[..40]));
}

#[test]
fn debug_and_display_of_a_refusal_hold_little_of_the_token() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let target = runtime.block_on(Target::set());
    let token = target.token().kid("k".repeat(2000)).typ("t".repeat(2000)).build();
    let refusal: AuthError = target.validator.try_validate(&token).unwrap().unwrap_err();
    for shown in [format!("{refusal:?}"), refusal.to_string(), format!("{:?}", refusal.kind())] {
        assert!(shown.len() < 300, "{shown}");
        assert!(token.split('.').all(|part| !shown.contains(part)), "{shown}");
    }
    assert_eq!(refusal.challenge().map(|value| value.len() < 300), Some(true));
}
