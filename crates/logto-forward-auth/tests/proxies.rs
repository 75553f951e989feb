//! The server alone, behind nginx and behind Caddy, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing helper fails the test")]

mod support;

use support::{ForwardAuth, Proxied, RESOURCE, Response, Upstream, nginx_with};
use tower_logto::testing::{TestIssuer, TokenBuilder};

fn reader(issuer: &TestIssuer) -> TokenBuilder {
    issuer.token().audience(RESOURCE).subject("alice").client_id("web").scopes(["read:products"])
}

/// Each proxy with its own server. Without the proxies' programs, CI fails and others skip.
async fn proxies(issuer: &TestIssuer) -> Vec<Proxied> {
    let mut proxies = vec![];
    for start in [support::nginx, support::nginx_with_slash, support::caddy] {
        proxies.extend(start(issuer).await);
    }
    proxies
}

#[tokio::test]
async fn statuses_challenges_and_identity_pass_both_proxies() {
    let issuer = TestIssuer::start().await.unwrap();
    let good = reader(&issuer).build();
    let member = issuer.token().audience(RESOURCE).organization_resource("acme");
    let member = member.scopes(["read:members"]).subject("bob").build();
    for proxied in proxies(&issuer).await {
        let name = proxied.name;
        let spoofed = "X-Auth-Subject: admin\r\nX-Auth-Scopes: everything\r\n\
                       X-Auth-Organization-Id: evil\r\n";
        for (line, token, status, subject) in [
            ("GET /public/logo.svg", None, 200, ""),
            ("GET /products", Some(&good), 200, "alice"),
            ("HEAD /products", Some(&good), 200, "alice"),
            ("GET /products?sort=name", Some(&good), 200, "alice"),
            ("GET /orgs/acme/members", Some(&member), 200, "bob"),
            ("GET /orgs/evil/members", Some(&member), 403, ""),
            ("GET /products", None, 401, ""),
            ("POST /products", Some(&good), 403, ""),
            ("DELETE /products", Some(&good), 403, ""),
            ("GET /admin", Some(&good), 403, ""),
        ] {
            proxied.upstream.take();
            let response = proxied.send(line, token, spoofed).await;
            assert_eq!(response.status, status, "{name}: {line}: {response:?}");
            let reached = proxied.upstream.take();
            assert_eq!(reached.len(), usize::from(status == 200), "{name}: {line}: {reached:?}");
            let Some(request) = reached.first() else { continue };
            assert_eq!(request.header("x-auth-subject"), [subject], "{name}: {line}: {request:?}");
            assert!(!request.text.contains("evil") && !request.text.contains("everything"));
            assert!(!request.text.contains("{http."), "{name}: a placeholder: {request:?}");
        }
        let challenge = |response: &Response| response.header("www-authenticate").join("|");
        let missing = proxied.send("GET /products", None, "").await;
        assert_eq!(challenge(&missing), "Bearer", "{name}");
        let expired = reader(&issuer).expired().build();
        let expired = proxied.send("GET /products", Some(&expired), "").await;
        assert!(challenge(&expired).contains("error=\"invalid_token\""), "{name}: {expired:?}");
        let scope = proxied.send("POST /products", Some(&good), "").await;
        assert!(challenge(&scope).contains("scope=\"write:products\""), "{name}: {scope:?}");
        let several = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n";
        let several = proxied.send("GET /products", None, several).await;
        assert_eq!(several.status, 400, "{name}: {several:?}");
    }
}

/// The service behind the proxy never gets a request that no rule allows, however it is written.
#[tokio::test]
async fn no_spelling_of_a_path_reaches_a_forbidden_one() {
    let issuer = TestIssuer::start().await.unwrap();
    let good = reader(&issuer).build();
    for proxied in proxies(&issuer).await {
        for target in support::SMUGGLED {
            for headers in ["", "X-Original-URI: /public/x\r\nX-Forwarded-Uri: /public/x\r\n"] {
                proxied.upstream.take();
                let response = proxied.send(&format!("GET {target}"), Some(&good), headers).await;
                let reached = proxied.upstream.take();
                let found = format!("{}: {target:?}: {response:?}, {reached:?}", proxied.name);
                assert!(reached.is_empty(), "{found}");
                assert!((400..500).contains(&response.status), "{found}");
            }
        }
        for method in ["PROPFIND", "TRACE", "get", "OPTIONS"] {
            proxied.upstream.take();
            proxied.send(&format!("{method} /public/x"), Some(&good), "").await;
            assert!(proxied.upstream.take().is_empty(), "{}: {method}", proxied.name);
        }
    }
}

#[tokio::test]
async fn outage_is_503_with_retry_after() {
    let issuer = TestIssuer::start().await.unwrap();
    let good = reader(&issuer).build();
    issuer.go_down();
    for proxied in proxies(&issuer).await {
        let response = proxied.send("GET /products", Some(&good), "").await;
        assert_eq!(response.status, 503, "{}: {response:?}", proxied.name);
        assert_eq!(response.header("retry-after").len(), 1, "{}: {response:?}", proxied.name);
        assert!(proxied.upstream.take().is_empty());
    }
}

#[tokio::test]
async fn server_alone_refuses_what_a_proxy_must_not_send() {
    let issuer = TestIssuer::start().await.unwrap();
    let server = ForwardAuth::start(&issuer, "nginx").await;
    let good = reader(&issuer).build();
    let original = "X-Original-Method: GET\r\nX-Original-URI: /products\r\n";
    let grpc = "Content-Type: application/grpc\r\nTE: trailers\r\n";
    for (headers, token, status) in [
        (original.to_owned(), Some(&good), 200),
        (String::new(), Some(&good), 500),
        (format!("{original}X-Original-URI: /public/x\r\n"), Some(&good), 403),
        (format!("{original}X-Original-Method: POST\r\n"), Some(&good), 403),
        ("X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /products\r\n".into(), Some(&good), 500),
        // A proxy reads a refusal with status 200 as permission.
        (format!("{original}{grpc}"), None, 401),
        (format!("{original}{grpc}"), Some(&good), 200),
        (original.replace("/products", "/produ\u{e9}"), Some(&good), 403),
        (format!("{original}Authorization: Basic YTpi\r\n"), None, 401),
    ] {
        for method in ["GET", "POST"] {
            let line = format!("{method} /auth");
            let response = support::send(server.port, &line, token, &headers).await;
            assert_eq!(response.status, status, "{headers:?}: {response:?}");
            let identity = response.header("x-auth-organization-id").len();
            assert_eq!(identity, usize::from(status == 200), "{response:?}");
        }
    }
    for (path, status) in [("/-/live", 200), ("/-/ready", 200), ("/", 404), ("/auth/x", 404)] {
        let response = support::send(server.port, &format!("GET {path}"), None, original).await;
        assert_eq!(response.status, status, "{path}");
    }
}

#[tokio::test]
async fn claim_that_cannot_be_a_header_is_refused() {
    let issuer = TestIssuer::start().await.unwrap();
    let server = ForwardAuth::start(&issuer, "nginx").await;
    let original = "X-Original-Method: GET\r\nX-Original-URI: /products\r\n";
    for subject in ["a\r\nX-Auth-Scopes: all", "bérénice", " alice", "a\tb"] {
        let token = reader(&issuer).subject(subject).build();
        let response = support::send(server.port, "GET /auth", Some(&token), original).await;
        assert_eq!(response.status, 403, "{subject:?}: {response:?}");
        assert!(response.header("x-auth-client-id").is_empty());
    }
}

#[tokio::test]
async fn reload_keeps_the_old_rules_if_the_file_is_wrong() {
    let issuer = TestIssuer::start().await.unwrap();
    let mut server = ForwardAuth::start(&issuer, "nginx").await;
    let status = async |server: &ForwardAuth, target: &str| {
        let headers = format!("X-Original-Method: GET\r\nX-Original-URI: {target}\r\n");
        support::send(server.port, "GET /auth", None, &headers).await.status
    };
    assert_eq!(status(&server, "/public/x").await, 200);
    assert_eq!(status(&server, "/new").await, 403);
    server.write(&format!(
        "{}\n[[rule]]\nmethods = [\"GET\"]\npath = \"/new\"\npublik = true\n",
        server.config
    ));
    server.reload("configuration not reloaded").await;
    assert_eq!(status(&server, "/public/x").await, 200);
    assert_eq!(status(&server, "/new").await, 403);
    server.write(&format!(
        "{}\n[[rule]]\nmethods = [\"GET\"]\npath = \"/new\"\npublic = true\n",
        server.config
    ));
    server.reload("configuration reloaded").await;
    assert_eq!(status(&server, "/new").await, 200);
}

/// Without the lines of the documented configuration, the caller's own header would be believed.
#[tokio::test]
async fn nginx_without_the_original_uri_is_an_error_and_not_an_open_door() {
    let issuer = TestIssuer::start().await.unwrap();
    let without = |config: String| {
        config.replace("        proxy_set_header X-Original-URI $request_uri;\n", "")
    };
    let Some(proxied) = nginx_with(&issuer, "nginx without X-Original-URI", without).await else {
        return;
    };
    let response = proxied.send("GET /public/x", None, "").await;
    assert_eq!(response.status, 500, "{response:?}");
    assert!(proxied.upstream.take().is_empty());
}

#[tokio::test]
async fn upstream_of_the_tests_records_what_it_gets() {
    let upstream = Upstream::start().await;
    let response = support::send(upstream.port, "GET /a/../b", None, "X-Auth-Subject: x\r\n").await;
    assert_eq!(response.status, 200);
    let requests = upstream.take();
    assert!(requests[0].text.starts_with("GET /a/../b HTTP/1.1"), "{requests:?}");
    assert_eq!(requests[0].header("x-auth-subject"), ["x"]);
}
