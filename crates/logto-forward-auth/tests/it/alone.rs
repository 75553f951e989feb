//! Tests of the server without a proxy: its decisions, headers, probes and signals.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    support::{
        Fixture,
        http::{Response, bearer, exchange, send},
        process::DEADLINE,
    },
    through_proxy::{IDENTITY, REFUSED_TARGETS},
};

/// Asks the server whether a request is permitted. Sends the headers that nginx would send.
async fn ask(fixture: &Fixture, method: &str, target: &[u8], headers: &str) -> Response {
    let mut request = b"GET /auth HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_vec();
    request.extend(format!("X-Original-Method: {method}\r\nX-Original-URI: ").bytes());
    request.extend(target);
    request.extend(format!("\r\n{headers}\r\n").bytes());
    exchange(fixture.address, &request).await
}

/// Waits until the server has fetched the keys. After that, only the test causes JWKS fetches.
async fn keys_fetched(fixture: &Fixture) {
    let response = ask(fixture, "GET", b"/products", &bearer(&fixture.token())).await;
    assert_eq!(response.status, 200);
}

fn identity(response: &Response) -> [&str; 4] {
    IDENTITY.map(|name| response.header(name).unwrap_or_else(|| panic!("{name}: {response:?}")))
}

#[tokio::test]
async fn rules_check_the_scopes_and_the_organization() {
    let fixture = Fixture::start("nginx").await;
    let user = |scopes: &[&str]| bearer(&fixture.user().scopes(scopes.iter().copied()).build());
    let member = |scopes: &[&str]| {
        let token = fixture.user().organization_resource("acme").scopes(scopes.iter().copied());
        bearer(&token.build())
    };
    for (method, target, headers, status) in [
        ("GET", "/public", String::new(), 200),
        ("HEAD", "/public", String::new(), 200),
        ("POST", "/public", String::new(), 403),
        ("OPTIONS", "/products", String::new(), 200),
        ("OPTIONS", "/admin", user(&["admin"]), 403),
        ("GET", "/products", String::new(), 401),
        ("GET", "/products", user(&["read:products"]), 200),
        ("GET", "/products", user(&["write:products"]), 200),
        ("GET", "/products", user(&[]), 403),
        ("HEAD", "/products/1", user(&["read:products"]), 200),
        ("POST", "/products/1?x=/../y", user(&["read:products"]), 200),
        ("DELETE", "/products/1", user(&["read:products"]), 403),
        ("TRACE", "/products/1", user(&["read:products"]), 403),
        ("get", "/products/1", user(&["read:products"]), 403),
        ("GET", "/products/1", member(&["read:products"]), 403),
        ("GET", "/admin", user(&["browse"]), 403),
        ("GET", "/%61dmin", user(&["browse"]), 403),
        ("GET", "/Admin", user(&["browse"]), 403),
        ("GET", "/admin/", user(&["browse"]), 403),
        ("GET", "/admin/x", user(&["browse"]), 200),
        ("GET", "/admin", user(&["admin"]), 200),
        ("GET", "/orgs/acme/members", member(&["read:members"]), 200),
        ("GET", "/orgs/%61cme/members", member(&["read:members"]), 200),
        ("GET", "/orgs/other/members", member(&["read:members"]), 403),
        ("GET", "/orgs/acme/members", member(&[]), 403),
        ("GET", "/orgs/acme/members", user(&["read:members"]), 403),
        ("GET", "/my-organization", member(&[]), 200),
        ("GET", "/my-organization", user(&[]), 403),
        ("GET", "/products", "Authorization: Bearer x\r\n".into(), 401),
        ("GET", "/products", "Authorization: Basic eDp5\r\n".into(), 401),
        ("GET", "/products", "Authorization: Bearer\r\n".into(), 400),
        ("GET", "/products", "Authorization: Bearer\tx\r\n".into(), 400),
        ("GET", "/products", user(&["read:products"]).repeat(2), 400),
        ("GET", "/products", bearer(&fixture.user().expired().build()), 401),
        ("GET", "/products", bearer(&fixture.user().bad_signature().build()), 401),
        ("GET", "/products", bearer(&fixture.user().audience("https://other.api").build()), 401),
    ] {
        let response = ask(&fixture, method, target.as_bytes(), &headers).await;
        assert_eq!(response.status, status, "{method} {target} {headers}");
        match status {
            200 => drop(identity(&response)),
            401 | 400 => {
                let challenge = response.header("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer"), "{challenge}");
            }
            _ => {}
        }
    }
    let missing = ask(&fixture, "GET", b"/products", "").await;
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let refused = ask(&fixture, "GET", b"/admin", &user(&[])).await;
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    assert!(challenge.contains(r#"scope="admin""#), "{challenge}");
}

#[tokio::test]
async fn ambiguous_targets_get_403() {
    let fixture = Fixture::start("nginx").await;
    let token = bearer(&fixture.token());
    assert_eq!(ask(&fixture, "GET", b"/products/1", &token).await.status, 200);
    for target in REFUSED_TARGETS {
        // A header value must not contain control characters, so hyper answers with 400.
        let is_control = |byte: &u8| byte.is_ascii_control();
        let expected = if target.iter().any(is_control) { 400 } else { 403 };
        let response = ask(&fixture, "GET", target, &token).await;
        assert_eq!(response.status, expected, "{}", target.escape_ascii());
    }
}

#[tokio::test]
async fn every_200_has_every_identity_header() {
    let fixture = Fixture::start("nginx").await;
    let response = ask(&fixture, "GET", b"/products", &bearer(&fixture.token())).await;
    assert_eq!(identity(&response), ["alice", "app", "", "read:products browse"]);
    let token = fixture.user().organization_resource("acme").build();
    let response = ask(&fixture, "GET", b"/my-organization", &bearer(&token)).await;
    assert_eq!(identity(&response), ["alice", "app", "acme", ""]);
    // Under a public rule, the server ignores the token.
    let response = ask(&fixture, "GET", b"/public", &bearer(&fixture.token())).await;
    assert_eq!(identity(&response), [""; 4]);
}

#[tokio::test]
async fn identity_with_unsafe_characters_gets_403() {
    let fixture = Fixture::start("nginx").await;
    for subject in ["a\r\nX-Auth-Scopes: admin", "a b", "é", "a\tb", "a\u{7f}", "a\0"] {
        let token = fixture.user().subject(subject).scopes(["read:products"]).build();
        let response = ask(&fixture, "GET", b"/products", &bearer(&token)).await;
        assert_eq!(response.status, 403, "{subject:?}");
        assert!(response.header("x-auth-subject").is_none(), "{response:?}");
    }
}

#[tokio::test]
async fn the_headers_of_the_proxy_must_occur_exactly_once() {
    let fixture = Fixture::start("nginx").await;
    let get = "X-Original-Method: GET\r\n";
    let public = "X-Original-URI: /public\r\n";
    for (headers, status) in [
        (format!("{get}{public}"), 200),
        (String::new(), 500),
        (get.to_owned(), 500),
        (public.to_owned(), 500),
        (format!("{get}{public}{public}"), 403),
        (format!("{get}{get}{public}"), 403),
        (format!("{get}{public}X-Original-URI: /admin\r\n"), 403),
        // Caddy sends these headers, so the setting `proxy = "nginx"` may be wrong.
        (format!("{get}{public}X-Forwarded-Uri: /admin\r\n"), 403),
        (format!("{get}{public}X-Forwarded-Method: GET\r\n"), 403),
        // Some services replace the method or the path with the values of these headers.
        (format!("{get}{public}X-HTTP-Method-Override: DELETE\r\n"), 403),
        (format!("{get}{public}X_Http_Method_Override: DELETE\r\n"), 403),
        (format!("{get}{public}X-Original-URL: /admin\r\n"), 403),
        (format!("{get}{public}X-Rewrite-URL: /admin\r\n"), 403),
    ] {
        let response = send(fixture.address, "GET", b"/auth", &headers).await;
        assert_eq!(response.status, status, "{headers}");
    }
    fixture.process.wait_for_line("the proxy sent no x-original-uri; compare").await;
    let caddy = Fixture::start("caddy").await;
    let headers = "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /public\r\n";
    assert_eq!(send(caddy.address, "GET", b"/auth", headers).await.status, 200);
    let nginx = format!("{get}{public}");
    assert_eq!(send(caddy.address, "GET", b"/auth", &nginx).await.status, 403);
}

#[tokio::test]
async fn grpc_requests_without_a_token_never_get_2xx() {
    let fixture = Fixture::start("nginx").await;
    for content_type in ["application/grpc", "application/grpc+proto", "Application/GRPC"] {
        for (method, target) in [("POST", "/products/1"), ("GET", "/public"), ("GET", "/products")]
        {
            let headers = format!("Content-Type: {content_type}\r\nTE: trailers\r\n");
            let response = ask(&fixture, method, target.as_bytes(), &headers).await;
            assert_eq!(response.status, 401, "{method} {target}");
            assert!(response.header("grpc-status").is_none());
        }
        let headers = format!("Content-Type: {content_type}\r\n{}", bearer(&fixture.token()));
        assert_eq!(ask(&fixture, "GET", b"/public", &headers).await.status, 200);
    }
    // The request to `/auth` itself may also look like a gRPC call.
    let headers = "Content-Type: application/grpc\r\nTE: trailers\r\n";
    assert_eq!(send(fixture.address, "POST", b"/auth", headers).await.status, 405);
}

#[tokio::test]
async fn unavailable_keys_cause_503_with_retry_after() {
    let fixture = Fixture::start("nginx").await;
    keys_fetched(&fixture).await;
    fixture.logto.go_down();
    // The server has not fetched this key.
    let key = tower_logto::testing::SigningKey::generate(tower_logto::Algorithm::ES384);
    let token = fixture.user().signed_by(&key).build();
    let response = ask(&fixture, "GET", b"/products", &bearer(&token)).await;
    assert_eq!(response.status, 503);
    let retry_after: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 1);
    assert!(response.header("www-authenticate").is_none());
}

#[tokio::test]
async fn only_two_paths_exist() {
    let fixture = Fixture::start("nginx").await;
    for (method, target, status) in [
        ("GET", "/-/ready", 200),
        ("HEAD", "/-/ready", 200),
        ("POST", "/-/ready", 405),
        ("POST", "/auth", 405),
        ("GET", "/auth/", 404),
        ("GET", "/", 404),
        ("GET", "/-/ready/", 404),
    ] {
        let response = send(fixture.address, method, target.as_bytes(), "").await;
        assert_eq!(response.status, status, "{method} {target}");
    }
}

#[tokio::test]
async fn a_reload_keeps_the_old_rules_if_the_file_is_wrong() {
    let fixture = Fixture::start("nginx").await;
    keys_fetched(&fixture).await;
    let status = async |target: &[u8]| ask(&fixture, "GET", target, "").await.status;
    assert_eq!(status(b"/public").await, 200);
    assert_eq!(status(b"/new").await, 401);
    fixture.write("[[rule]]\nmethods = [\"GET\"]\npath = \"/new\"\n");
    fixture.process.signal("HUP");
    let line = fixture.process.wait_for_line("reload failed; the old rules stay in force").await;
    assert!(line.contains("scopes is missing") && line.contains(".toml:6: rule 1"), "{line}");
    assert_eq!(status(b"/public").await, 200);
    assert_eq!(status(b"/new").await, 401);
    fixture.write(
        "[[rule]]\nmethods = [\"GET\"]\npath = \"/new\"\npublic = true\n\
         [[rule]]\nmethods = [\"GET\"]\npath = \"/products\"\nscopes = []\n",
    );
    fixture.process.signal("HUP");
    fixture.process.wait_for_line("rules reloaded").await;
    assert_eq!(status(b"/public").await, 403);
    assert_eq!(status(b"/new").await, 200);
    keys_fetched(&fixture).await;
    assert_eq!(fixture.logto.jwks_requests(), 1, "the validator keeps its keys");
}

#[tokio::test]
async fn requests_in_flight_complete_after_sigterm() {
    let fixture = Fixture::start("nginx").await;
    keys_fetched(&fixture).await;
    fixture.logto.hang();
    let key = tower_logto::testing::SigningKey::generate(tower_logto::Algorithm::ES384);
    let token = bearer(&fixture.user().signed_by(&key).build());
    let (response, ()) = tokio::join!(ask(&fixture, "GET", b"/products", &token), async {
        timeout(DEADLINE, fixture.logto.jwks_requested(2)).await.unwrap();
        fixture.process.signal("TERM");
        fixture.process.wait_for_line("stopping").await;
        assert!(TcpStream::connect(fixture.address).await.is_err());
        fixture.logto.recover();
    });
    assert_eq!(response.status, 401, "the key is unknown");
    assert!(fixture.process.exit().await.success());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let fixture = Fixture::start_with("proxy = \"nginx\"\nmax_connections = 1").await;
    let mut held = TcpStream::connect(fixture.address).await.unwrap();
    let mut probe = async || {
        held.write_all(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"ready\n") {
            response.push(held.read_u8().await.unwrap());
        }
    };
    probe().await;
    let address = fixture.address;
    let waiting = tokio::spawn(async move { send(address, "GET", b"/-/ready", "").await.status });
    for _ in 0..100 {
        probe().await;
    }
    assert!(!waiting.is_finished(), "the only permitted connection is in use");
    drop(held);
    assert_eq!(waiting.await.unwrap(), 200);
}

#[tokio::test]
async fn rules_check_the_audience_and_challenges_contain_the_configured_parameters() {
    let rule = |path: &str, audience: &str| {
        format!(
            "[[rule]]\nmethods = [\"GET\"]\npath = \"{path}\"\nscopes = [\"read\"]\n\
             audience = \"{audience}\"\n"
        )
    };
    let fixture = Fixture::start_file(|logto| {
        format!(
            "listen = \"127.0.0.1:0\"\nproxy = \"nginx\"\n[logto]\nissuer = \"{}\"\n\
             resource = [\"https://a.api\", \"https://b.api\"]\njwks_uri = \"{}\"\n\
             realm = \"shop\"\nresource_metadata = \"https://a.example/metadata\"\n{}{}",
            logto.issuer(),
            logto.jwks_uri(),
            rule("/a", "https://a.api"),
            rule("/b", "https://b.api")
        )
    });
    let fixture = fixture.await;
    let token = bearer(&fixture.logto.token().audience("https://a.api").scopes(["read"]).build());
    assert_eq!(ask(&fixture, "GET", b"/a", &token).await.status, 200);
    assert_eq!(ask(&fixture, "GET", b"/b", &token).await.status, 403);
    let parameters = r#"Bearer realm="shop", resource_metadata="https://a.example/metadata""#;
    let response = ask(&fixture, "GET", b"/a", "").await;
    assert_eq!(response.header("www-authenticate"), Some(parameters));
    let response = ask(&fixture, "GET", b"/a", "Authorization: Bearer x\r\n").await;
    let challenge = response.header("www-authenticate").unwrap();
    for parameter in [r#"realm="shop""#, r#"resource_metadata="https://a.example/metadata""#] {
        assert!(challenge.contains(parameter), "{challenge}");
    }
}

#[tokio::test]
async fn the_log_has_the_reason_but_neither_token_nor_query() {
    let fixture = Fixture::start("nginx").await;
    let token = fixture.token();
    for target in ["/products/1;x?access_token=secret", "/admin?access_token=secret"] {
        let response = ask(&fixture, "GET", target.as_bytes(), &bearer(&token)).await;
        assert_eq!(response.status, 403);
    }
    fixture.process.wait_for_line("the path has a backslash, a semicolon").await;
    let line = fixture.process.wait_for_line("the token lacks a scope").await;
    assert!(line.contains("/admin"), "{line}");
    let output = fixture.process.output();
    assert!(!output.contains("secret") && !output.contains(&token), "{output}");
}
