//! Memory use with malicious JWKS responses. These tests are a separate binary, because they read
//! the peak memory of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test")]

mod support;

use std::io;

use support::{
    Connection, Harness, RawServer, SECOND, SHOPPING_API, gzip_bomb, jwks_response, response,
};
use tower_logto::Validator;

const MIB: usize = 1024 * 1024;

/// The peak memory use of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Returns the number of bytes by which the peak memory use exceeds `before`. The kernel updates
/// the peak with a delay, and may correct it downwards. If the peak is now below `before`, the
/// result is 0.
fn growth_since(before: usize) -> usize {
    peak().saturating_sub(before)
}

type Handler = Box<dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync>;

fn sends(bytes: Vec<u8>) -> Handler {
    Box::new(move |connection| connection.send(&bytes))
}

fn floods(start: &'static str, with: &[u8]) -> Handler {
    let with = with.to_vec();
    Box::new(move |connection| {
        connection.send(start.as_bytes())?;
        connection.flood(&with)
    })
}

fn drips(start: &'static str, with: &'static str) -> Handler {
    Box::new(move |connection| {
        connection.send(start.as_bytes())?;
        connection.drip(with.as_bytes(), 50)
    })
}

fn handlers() -> Vec<(&'static str, Handler)> {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const TRAILER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let spaces = [b' '; 64 * 1024];
    let chunk = [&b"10000\r\n"[..], &spaces, b"\r\n"].concat();
    let empty_objects = "{},".repeat(85_000);
    vec![
        (
            "100 MB with a Content-Length",
            Box::new(move |connection: &mut Connection| {
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")?;
                (0..1600).try_for_each(|_| connection.send(&spaces))
            }),
        ),
        ("a gzip bomb of 200 MB", sends(response("200 OK\r\nContent-Encoding: gzip", gzip_bomb()))),
        ("an endless body in chunks", floods(CHUNKED, &chunk)),
        ("an endless body in chunks of a byte", floods(CHUNKED, &b"1\r\n \r\n".repeat(8192))),
        ("an endless body until close", floods("HTTP/1.0 200 OK\r\n\r\n", &spaces)),
        ("an endless chunk extension", floods(CHUNKED, b"1;x=y\r\n \r\n")),
        ("an endless trailer", floods(TRAILER, b"X: y\r\n")),
        ("an endless header", floods("HTTP/1.1 200 OK\r\nX: ", &spaces)),
        ("endless headers", floods("HTTP/1.1 200 OK\r\n", &b"X: y\r\n".repeat(8192))),
        ("250 KB of keys", sends(jwks_response(format!("{{\"keys\":[{empty_objects}{{}}]}}")))),
        (
            "250 KB of nested arrays",
            sends(jwks_response(format!("{{\"keys\":[{}", "[".repeat(250_000)))),
        ),
        // With each response below, the fetch ends only when it times out, after 5 s of real time.
        // The test runs these fetches at the same time, so it waits for only one timeout.
        ("endless 103s", drips("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")),
        ("a body byte by byte", drips("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", " ")),
        ("a header byte by byte", drips("HTTP/1.1 200 OK\r\nX: ", "x")),
    ]
}

#[tokio::test]
async fn memory_is_bounded_for_any_jwks_response() {
    let Harness { logto, clock } = Harness::start().await;
    let mut cases = Vec::new();
    for (name, handler) in handlers() {
        let server = RawServer::start();
        let trusted = logto.trusted(SHOPPING_API).jwks_uri(server.jwks_uri());
        let validator = Validator::builder().trust(trusted).clock(clock.clone()).build().unwrap();
        // The first fetch builds the HTTP client and reads the certificates, so it must run before
        // the measurement.
        server.respond(response("500 No", ""));
        validator.warm_up().await.unwrap_err();
        server.handle(handler);
        cases.push((name, server, validator));
    }
    clock.advance(SECOND);
    let start = peak();
    println!("{} MiB at the start", start / MIB);
    let (slow, quick): (Vec<_>, Vec<_>) = cases.iter().partition(|(name, ..)| is_slow(name));
    for (name, _, validator) in quick {
        let before = peak();
        assert_fails(name, validator).await;
        println!("{:>6} KiB more for {name}", growth_since(before) / 1024);
    }
    let before = peak();
    let fetches = slow.iter().map(|(name, _, validator)| {
        let (name, validator) = (*name, validator.clone());
        tokio::spawn(async move { assert_fails(name, &validator).await })
    });
    for fetch in fetches.collect::<Vec<_>>() {
        fetch.await.unwrap();
    }
    println!("{:>6} KiB more for slow responses", growth_since(before) / 1024);
    let growth = growth_since(start);
    println!("{} KiB more in total", growth / 1024);
    assert!(growth < 64 * MIB, "{} MiB", growth / MIB);

    // The validators recover when their servers send valid keys.
    clock.advance(SECOND);
    for (name, server, validator) in cases {
        server.respond(jwks_response(logto.jwks()));
        let outcome = validator.validate(&logto.token().build()).await;
        assert!(outcome.is_ok(), "after {name}");
    }
}

fn is_slow(name: &str) -> bool {
    name.contains("byte by byte") || name.contains("103s")
}

/// Asserts that the fetch fails within 30 s. The timeout of a fetch is only 5 s, so this limit
/// leaves a margin for slow machines.
async fn assert_fails(name: &str, validator: &Validator) {
    let fetch = tokio::time::timeout(30 * SECOND, validator.warm_up());
    fetch.await.expect("the fetch ends").expect_err(name);
}
