//! The checks that must succeed behind every proxy.

use std::net::SocketAddr;

use tower_logto::{Algorithm, testing::SigningKey};

use crate::support::{
    Fixture, TemporaryFile,
    http::{Response, bearer, exchange, send},
    process::Process,
    upstream::{Upstream, all_variants},
};

pub(crate) const IDENTITY: [&str; 4] =
    ["X-Auth-Subject", "X-Auth-Client-Id", "X-Auth-Organization-Id", "X-Auth-Scopes"];

/// The targets that the server must refuse. The token in the tests gives access to `/products/…`,
/// but not to `/admin`. A service that normalizes paths would serve `/admin` for most of the
/// targets.
pub(crate) const REFUSED_TARGETS: &[&[u8]] = &[
    b"/products/../admin",
    b"/products/./../admin",
    b"/products/x/../../admin",
    b"/products/..",
    b"/./admin",
    b"//admin",
    b"/products//../admin",
    b"/products/../../admin",
    b"///admin",
    b"/products/%2e%2e/admin",
    b"/products/%2E%2E/admin",
    b"/products/.%2e/admin",
    b"/products/%2e./admin",
    b"/products%2f..%2fadmin",
    b"/products/..%2Fadmin",
    b"/products%2F%2E%2E%2Fadmin",
    b"/products/%2fadmin",
    b"/%2fadmin",
    b"/%2Fadmin",
    b"/products\\..\\admin",
    b"/products/..\\admin",
    b"/\\admin",
    b"/products/%5c..%5cadmin",
    b"/products/..%5Cadmin",
    b"/products/..;/admin",
    b"/products/..;x=1/admin",
    b"/products;/../admin",
    b"/admin;x",
    b"/products/1;x=1",
    b"/admin%3Bx",
    b"/admin#",
    b"/products/1#/../admin",
    b"/products/%23/../admin",
    b"/admin%23x",
    b"/admin%3Fx",
    b"/products/%252e%252e/admin",
    b"/products/%252E%252E%252Fadmin",
    b"/products/%25%32%65%25%32%65/admin",
    b"/admin%00",
    b"/admin%00.html",
    b"/products/1%00/../../admin",
    b"/admin%0a",
    b"/admin%0d%0aX-Auth-Scopes:%20admin",
    b"/admin%09",
    b"/admin%7f",
    b"/admin%C2%85",
    b"/products/%c0%ae%c0%ae/admin",
    b"/products/..%c0%afadmin",
    b"/products/%e0%80%ae%e0%80%ae/admin",
    b"/products/%ff",
    b"/products/\xff",
    b"/products/\xc0\xae\xc0\xae/admin",
    b"/products/%",
    b"/products/%2",
    b"/products/%zz",
    b"/products/%u002e%u002e/admin",
    b"/products/%uff0e",
    b"/products/1?x=\x01",
    b"/products/1?x=\x7f",
    b"/products/\x0b../admin",
    b"http://app/admin",
    b"http://app/products/../admin",
    b"http://app//admin",
    b"\\admin",
    b"admin",
    b"*",
    b"/Admin",
    b"/ADMIN",
    b"/admin/",
    b"/%61dmin",
    b"/adm%69n/",
];

/// The running program, a proxy that asks the program, and the service behind the proxy.
pub(crate) struct Setup {
    pub(crate) fixture: Fixture,
    pub(crate) upstream: Upstream,
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Process,
    pub(crate) _files: TemporaryFile,
}

impl Setup {
    async fn send(&self, method: &str, target: &[u8], headers: &str) -> Response {
        send(self.address, method, target, headers).await
    }

    /// Sends a request that the service must not receive.
    async fn refused(&self, target: &[u8], headers: &str) -> Response {
        let response = self.send("GET", target, headers).await;
        let received = self.upstream.take_targets();
        let (target, proxy) = (target.escape_ascii(), self.proxy.output());
        assert!(
            received.is_empty(),
            "{target} {headers}: the service received {received:?}\n{proxy}"
        );
        assert!(response.header("x-upstream").is_none(), "{response:?}");
        assert!(response.status >= 400, "{target}: {response:?}");
        response
    }

    pub(crate) async fn ambiguous_targets_never_reach_the_service(&self) {
        let token = bearer(&self.fixture.token());
        self.refused(b"/admin", &token).await;
        for target in REFUSED_TARGETS {
            self.refused(target, &token).await;
        }
    }

    pub(crate) async fn permitted_targets_arrive_unchanged(&self) {
        let token = bearer(&self.fixture.token());
        for target in [
            "/products/1",
            "/products/a%20b",
            "/products/caf%C3%A9",
            "/products/x/",
            "/products/1?x=/../admin",
            "/products/1?x=%2e%2e//;%00",
            "/%70roducts/1",
        ] {
            let response = self.send("GET", target.as_bytes(), &token).await;
            assert_eq!(response.status, 200, "{target}: {}", self.proxy.output());
            assert_eq!(self.upstream.take_targets(), [target]);
        }
        assert_eq!(self.send("HEAD", b"/products/1", &token).await.status, 200);
        assert_eq!(self.send("OPTIONS", b"/products", "").await.status, 200);
        assert_eq!(self.upstream.take_targets().len(), 2);
        for body in [
            "Content-Length: 5\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            for (token, status) in [(&*token, 200), ("", 401)] {
                let request = format!(
                    "POST /products/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}{body}"
                );
                let response = exchange(self.address, request.as_bytes()).await;
                assert_eq!(response.status, status, "{body}: {}", self.proxy.output());
                assert_eq!(self.upstream.take_targets().len(), usize::from(status == 200));
            }
        }
    }

    pub(crate) async fn the_client_cannot_set_or_remove_the_identity(&self) {
        let forged = "X-Auth-Subject: admin\r\nx-auth-subject: root\r\nX_Auth_Subject: admin\r\n\
                      X-Auth_Subject: admin\r\nX-Auth-Client-Id: evil\r\nX_AUTH_CLIENT_ID: evil\r\n\
                      X-Auth-Organization-Id: evil\r\nX_Auth_Organization_Id: evil\r\n\
                      X-Auth-Scopes: admin\r\nX_Auth_Scopes: admin\r\n";
        let with_token = format!("{forged}{}", bearer(&self.fixture.token()));
        for (target, headers, expected) in [
            (&b"/products/1"[..], &*with_token, ["alice", "app", "", "read:products browse"]),
            (b"/public", forged, [""; 4]),
            (b"/public", &with_token, [""; 4]),
        ] {
            let response = self.send("GET", target, headers).await;
            assert_eq!(response.status, 200, "{}", self.proxy.output());
            let head = self.upstream.take_head().unwrap();
            for (name, expected) in IDENTITY.iter().zip(expected) {
                // If there is no value for an identity header, some proxies send an empty header,
                // and others omit the header.
                let mut values = all_variants(&head, name);
                values.retain(|value| !value.is_empty());
                assert_eq!(values.join("|"), expected, "{name}: {head}");
            }
        }
        // A proxy removes the headers that `Connection` lists (RFC 9110 §7.6.1). A client must not
        // be able to remove an identity header in this way.
        let token = bearer(&self.fixture.token());
        for name in ["X-Auth-Subject", "x-auth-subject", "X-AUTH-SUBJECT"] {
            for headers in [
                format!("Connection: close, {name}\r\n{token}"),
                format!("Connection: close\r\nConnection: {name}\r\n{token}"),
            ] {
                let response = self.send("GET", b"/products/1", &headers).await;
                let head = self.upstream.take_head();
                match head {
                    Some(head) => assert_eq!(all_variants(&head, "x-auth-subject"), ["alice"]),
                    None => assert_eq!(response.status, 400),
                }
            }
        }
    }

    pub(crate) async fn the_client_cannot_describe_another_request(&self) {
        let token = bearer(&self.fixture.token());
        for headers in [
            "X-Original-URI: /public\r\n",
            "X-Original-Uri: /public\r\nX-Original-Method: GET\r\n",
            "X-Forwarded-Uri: /public\r\n",
            "X-Forwarded-Uri: /public\r\nX-Forwarded-Method: GET\r\n",
            "X_Forwarded_Uri: /public\r\nX_Original_URI: /public\r\n",
            "Connection: close, X-Forwarded-Uri, X-Original-URI, X-Forwarded-Method\r\n",
        ] {
            self.refused(b"/admin", &format!("{headers}{token}")).await;
            self.refused(b"/products/1", headers).await;
            let response = self.send("GET", b"/public", headers).await;
            assert_eq!(response.status, 200, "{headers} {}", self.proxy.output());
            assert_eq!(self.upstream.take_targets(), ["/public"]);
        }
        self.refused(b"/public", "X-HTTP-Method-Override: DELETE\r\n").await;
        self.refused(b"/public", "X-Rewrite-URL: /admin\r\n").await;
    }

    pub(crate) async fn refusals_keep_status_challenge_and_retry_after(&self) {
        let response = self.refused(b"/products/1", "").await;
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
        let expired = bearer(&self.fixture.user().expired().build());
        let response = self.refused(b"/products/1", &expired).await;
        let challenge = response.header("www-authenticate").unwrap();
        assert!(response.status == 401 && challenge.contains("invalid_token"), "{response:?}");
        let token = bearer(&self.fixture.token());
        let response = self.refused(b"/admin", &token).await;
        let challenge = response.header("www-authenticate").unwrap();
        assert!(response.status == 403 && challenge.contains("scope=\"admin\""), "{response:?}");
        let response = self.refused(b"/products/1;x", &token).await;
        assert_eq!((response.status, response.header("www-authenticate")), (403, None));
        let response = self.refused(b"/products/1", "Authorization: Bearer a b\r\n").await;
        let challenge = response.header("www-authenticate").unwrap();
        assert!(response.status == 400 && challenge.contains("invalid_request"), "{response:?}");
        self.refused(b"/products/1", &token.repeat(2)).await;
        let grpc = "Content-Type: application/grpc\r\nTE: trailers\r\n";
        assert_eq!(self.refused(b"/public", grpc).await.status, 401);
        self.unavailable_keys_give_503().await;
    }

    async fn unavailable_keys_give_503(&self) {
        // After this request, the server has the keys. The second token is signed with an unknown
        // key, so the server must fetch the JWKS again.
        let token = bearer(&self.fixture.token());
        assert_eq!(self.send("GET", b"/products/1", &token).await.status, 200);
        self.upstream.take_targets();
        self.fixture.logto.go_down();
        let key = SigningKey::generate(Algorithm::ES384);
        let token = self.fixture.user().signed_by(&key).build();
        let response = self.refused(b"/products/1", &bearer(&token)).await;
        assert_eq!(response.status, 503, "{response:?}");
        let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds >= 1);
        self.fixture.logto.recover();
    }

    pub(crate) async fn a_stopped_server_permits_nothing(self) {
        let Self { fixture, upstream, address, proxy, _files } = self;
        let token = bearer(&fixture.token());
        fixture.process.signal("TERM");
        assert!(fixture.process.exit().await.success());
        for target in ["/public", "/products/1"] {
            let response = send(address, "GET", target.as_bytes(), &token).await;
            assert!(response.status >= 500, "{response:?} {}", proxy.output());
        }
        assert!(upstream.take_targets().is_empty());
    }
}

/// Replaces addresses in a documented configuration. Panics if one of the addresses is not in the
/// configuration.
pub(crate) fn with_addresses(template: &str, replacements: &[(&str, String)]) -> String {
    replacements.iter().fold(template.to_owned(), |text, (documented, address)| {
        assert!(text.contains(documented), "{documented}");
        text.replace(documented, address)
    })
}
