//! Tests with malicious responses of the JWKS endpoint: statuses, redirects, framing, compression,
//! sizes, and stalled responses.

use std::sync::atomic::{AtomicBool, Ordering};

use super::malicious::{Ends, MaliciousEndpoint};
use crate::support::{Connection, RawServer, SECOND, gzip, gzip_bomb, jwks_response, response};

#[tokio::test]
async fn status_other_than_200_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let jwks = endpoint.logto.jwks();
    let statuses = [
        201, 202, 203, 204, 205, 206, 207, 226, 300, 304, 305, 306, 400, 401, 403, 404, 407, 410,
        418, 421, 429, 451, 499, 500, 501, 502, 503, 504, 511, 599, 600, 999,
    ];
    let responses = statuses.map(|status| {
        let head = format!("{status} Any\r\nContent-Type: application/jwk-set+json");
        (format!("{status} with the JWKS"), response(&head, &jwks))
    });
    endpoint.assert_responses_harmless(responses).await;
    let with_headers = [
        ("503 and Retry-After", response("503 Slow Down\r\nRetry-After: 99999999999", "")),
        ("429 and Retry-After", response("429 Slow Down\r\nRetry-After: Never", "")),
        ("401 and a challenge", response("401 No\r\nWWW-Authenticate: Basic", &jwks)),
        ("304 without If-None-Match", response("304 Not Modified\r\nETag: \"x\"", "")),
        ("200 of HTTP/0.9", jwks.clone().into()),
    ];
    endpoint.assert_responses_harmless(with_headers).await;
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let endpoint = MaliciousEndpoint::start().await;
    let other = RawServer::start();
    other.respond(jwks_response(endpoint.logto.jwks()));
    for status in [300, 301, 302, 303, 307, 308] {
        for (name, location) in [
            ("to another server", other.jwks_uri()),
            ("to a file", "file:///etc/passwd".into()),
            ("to itself", "/oidc/jwks".into()),
        ] {
            let head =
                format!("{status} Moved\r\nLocation: {location}\r\nRefresh: 0;url={location}");
            let response = response(&head, endpoint.logto.jwks());
            let name = format!("{status} {name}");
            endpoint.assert_responses_harmless([(name, response)]).await;
        }
    }
    assert_eq!(other.requests().len(), 0, "the redirect was followed");
}

#[tokio::test]
async fn malformed_framing_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let jwks = endpoint.logto.jwks();
    let framed = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{jwks}").into_bytes();
    let length = jwks.len();
    let chunk = format!("{length:x}\r\n{jwks}\r\n");
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    let header = "x".repeat(1024 * 1024);
    let headers = (0..10_000).fold(String::new(), |all, n| all + &format!("X-{n}: {n}\r\n"));
    let responses = [
        ("a Content-Length that is too large", framed(&format!("Content-Length: {}", length + 1))),
        ("a Content-Length that is too small", framed(&format!("Content-Length: {}", length - 1))),
        ("a Content-Length of 0", framed("Content-Length: 0")),
        ("a Content-Length of an exabyte", framed("Content-Length: 1000000000000000000")),
        ("a Content-Length beyond 64 bits", framed("Content-Length: 99999999999999999999999")),
        ("a negative Content-Length", framed("Content-Length: -1")),
        ("a Content-Length that is not a number", framed("Content-Length: many")),
        ("two Content-Lengths", framed(&format!("Content-Length: {length}\r\nContent-Length: 5"))),
        ("a chunk that ends early", chunked(&chunk[..chunk.len() - 9])),
        ("no last chunk", chunked(&chunk)),
        ("a chunk without a size", chunked(&format!("\r\n{jwks}\r\n0\r\n\r\n"))),
        ("a chunk of a negative size", chunked(&format!("-5\r\n{jwks}\r\n0\r\n\r\n"))),
        ("a chunk of 2^64", chunked(&format!("10000000000000000\r\n{jwks}\r\n0\r\n\r\n"))),
        (
            "a chunk extension of a MB",
            chunked(&format!("{length:x};{header}\r\n{jwks}\r\n0\r\n\r\n")),
        ),
        ("no response", Vec::new()),
        ("only a status line", b"HTTP/1.1 200 OK\r\n".to_vec()),
        ("a status that is not a number", b"HTTP/1.1 two hundred\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("a TLS alert", b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        ("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec()),
        ("a header without a colon", framed("Content-Length")),
        ("a NUL in a header", framed("X: \0")),
        ("a header of a MB", framed(&format!("X: {header}"))),
        ("10,000 headers", framed(headers.trim_end())),
        (
            "1,000 interim responses and no final one",
            b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000),
        ),
        ("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec()),
    ];
    endpoint.assert_responses_harmless(responses).await;
}

#[tokio::test]
async fn unrequested_compression_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let jwks = endpoint.logto.jwks();
    let head = |encoding: &str| format!("200 OK\r\nContent-Encoding: {encoding}");
    let responses = [
        ("a gzip bomb", response(&head("gzip"), gzip_bomb())),
        ("a gzip bomb with two codings", response(&head("gzip, gzip"), gzip_bomb())),
        ("valid gzip", response(&head("gzip"), gzip(jwks.as_bytes()))),
        ("invalid gzip", response(&head("gzip"), "no")),
        ("a transfer coding", {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
            let body = gzip(jwks.as_bytes());
            let size = format!("{:x}\r\n", body.len());
            [head.as_bytes(), size.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
        }),
    ];
    endpoint.assert_responses_harmless(responses).await;
    let requests = endpoint.server.requests();
    let is_requested = |head: &str| head.to_ascii_lowercase().contains("accept-encoding");
    assert!(!requests.iter().any(|request| is_requested(&request.head)), "{requests:?}");
}

#[tokio::test]
async fn endless_response_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let spaces = [b' '; 64 * 1024];
    endpoint
        .assert_harmless("100 MB", Ends::BeforeTimeout, |server| {
            server.handle(move |connection| {
                connection.send(LENGTH)?;
                (0..1600).try_for_each(|_| connection.send(&spaces))
            });
        })
        .await;
    let chunk = [&b"10000\r\n"[..], &spaces, b"\r\n"].concat();
    for (name, start) in [
        ("an endless body in chunks", CHUNKED.to_vec()),
        ("an endless body without a length", b"HTTP/1.0 200 OK\r\n\r\n".to_vec()),
        ("an endless header", b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
    ] {
        endpoint
            .assert_harmless(name, Ends::BeforeTimeout, |server| {
                let (start, chunk) = (start.clone(), chunk.clone());
                server.handle(move |connection| {
                    connection.send(&start)?;
                    connection.flood(&chunk)
                });
            })
            .await;
    }
}

#[tokio::test]
async fn stalled_response_is_harmless() {
    let endpoint = MaliciousEndpoint::start().await;
    let jwks = endpoint.logto.jwks();
    let half = &jwks[..jwks.len() / 2];
    let length = jwks.len();
    let ok = "HTTP/1.1 200 OK\r\n";
    let drip = |connection: &mut Connection| connection.drip(b"x", 20);
    for (name, start) in [
        ("from the start", String::new()),
        ("in the status line", "HTTP/1".into()),
        ("in a header", format!("{ok}X: ")),
        ("after a header", format!("{ok}X: x\r\n")),
        ("before the body", format!("{ok}Content-Length: {length}\r\n\r\n")),
        ("in the body", format!("{ok}Content-Length: {length}\r\n\r\n{half}")),
        ("before the first chunk", format!("{ok}Transfer-Encoding: chunked\r\n\r\n")),
        ("in a chunk", format!("{ok}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{half}")),
        ("after a 100", "HTTP/1.1 100 Continue\r\n\r\n".into()),
        ("in a large body", "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{".into()),
    ] {
        let stall = |server: &RawServer| {
            let start = start.clone();
            server.handle(move |connection| {
                connection.send(start.as_bytes())?;
                connection.stall()
            });
        };
        endpoint.assert_harmless(&format!("stalled {name}"), Ends::AtTimeout, stall).await;
    }
    for (name, start) in [
        ("in a header", format!("{ok}X: ")),
        ("in a body", format!("{ok}Content-Length: 100000\r\n\r\n")),
    ] {
        let stall = |server: &RawServer| {
            let start = start.clone();
            server.handle(move |connection| {
                connection.send(start.as_bytes())?;
                drip(connection)
            });
        };
        endpoint
            .assert_harmless(&format!("one byte at a time, {name}"), Ends::AtTimeout, stall)
            .await;
    }
}

#[tokio::test]
async fn http_client_that_failed_to_build_is_built_again() {
    let endpoint = MaliciousEndpoint::start().await;
    endpoint.serve_real_keys();
    let broken = AtomicBool::new(true);
    let build = move || {
        // A header value must not contain a line feed, so building the first HTTP client fails.
        let agent = if broken.swap(false, Ordering::Relaxed) { "\n" } else { "agent" };
        reqwest::Client::builder().user_agent(agent)
    };
    let validator = endpoint.builder().http_client_builder(build).build().unwrap();
    let token = endpoint.token().build();
    assert_eq!(endpoint.status(&validator, &token).await, 503);
    endpoint.clock.advance(SECOND);
    assert_eq!(endpoint.status(&validator, &token).await, 200);
}
