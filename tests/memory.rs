//! Memory under hostile key sets: a binary of its own, for the high-water mark of its process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails it")]

#[path = "it/hostile.rs"]
#[allow(dead_code, reason = "shared with the integration tests")]
mod hostile;

use std::{io, time::Duration};

use hostile::{Connection, Hostile, gzip_bomb, ok, response};
use tower_logto::{
    Validator,
    testing::{ManualClock, TestIssuer},
};

const SHOP: &str = "https://shopping.api";
const MIB: usize = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// The most memory this process ever held, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// How far above this it has gone since; the kernel counts a little behind, and may even correct
/// itself downwards.
fn more_than(before: usize) -> usize {
    peak().saturating_sub(before)
}

type Behaviour = Box<dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync>;

fn sends(bytes: Vec<u8>) -> Behaviour {
    Box::new(move |connection| connection.send(&bytes))
}

fn floods(start: &'static str, with: &[u8]) -> Behaviour {
    let with = with.to_vec();
    Box::new(move |connection| {
        connection.send(start.as_bytes())?;
        connection.flood(&with)
    })
}

fn drips(start: &'static str, with: &'static str) -> Behaviour {
    Box::new(move |connection| {
        connection.send(start.as_bytes())?;
        connection.drip(with.as_bytes(), 50)
    })
}

fn behaviours() -> Vec<(&'static str, Behaviour)> {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const TRAILER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let spaces = [b' '; 64 * 1024];
    let chunk = [&b"10000\r\n"[..], &spaces, b"\r\n"].concat();
    let nothings = "{},".repeat(85_000);
    vec![
        (
            "100 MB with its length",
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
        ("250 KB of keys", sends(ok(format!("{{\"keys\":[{nothings}{{}}]}}")))),
        ("250 KB of brackets", sends(ok(format!("{{\"keys\":[{}", "[".repeat(250_000))))),
        // Ended by the timeout of a fetch, in real time, together.
        ("endless 103s", drips("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")),
        ("a body that drips", drips("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", " ")),
        ("a header that drips", drips("HTTP/1.1 200 OK\r\nX: ", "x")),
    ]
}

#[tokio::test]
async fn memory_is_bounded_whatever_the_key_server_says() {
    let clock = ManualClock::default();
    let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
    let mut scenes = Vec::new();
    for (name, behaviour) in behaviours() {
        let hostile = Hostile::start();
        let trusted = logto.trusted(SHOP).jwks_uri(hostile.url());
        let validator = Validator::builder().trust(trusted).clock(clock.clone()).build().unwrap();
        // The client and its certificates are there before anything is measured.
        hostile.answer(response("500 No", ""));
        validator.warm_up().await.unwrap_err();
        hostile.behave(behaviour);
        scenes.push((name, hostile, validator));
    }
    clock.advance(SECOND);
    let start = peak();
    println!("{} MiB at the start", start / MIB);
    let (slow, quick): (Vec<_>, Vec<_>) = scenes.iter().partition(|(name, ..)| is_slow(name));
    for (name, _, validator) in quick {
        let before = peak();
        fails(name, validator).await;
        println!("{:>6} KiB more for {name}", more_than(before) / 1024);
    }
    let before = peak();
    let fetches = slow.iter().map(|(name, _, validator)| {
        let (name, validator) = (*name, validator.clone());
        tokio::spawn(async move { fails(name, &validator).await })
    });
    for fetch in fetches.collect::<Vec<_>>() {
        fetch.await.unwrap();
    }
    println!("{:>6} KiB more for what drips", more_than(before) / 1024);
    let growth = more_than(start);
    println!("{} KiB more in all", growth / 1024);
    assert!(growth < 64 * MIB, "{} MiB", growth / MIB);

    // And the validators are none the worse for it.
    clock.advance(SECOND);
    for (name, hostile, validator) in scenes {
        hostile.answer(ok(logto.jwks()));
        let verdict = validator.validate(&logto.token().build()).await;
        assert!(verdict.is_ok(), "after {name}");
    }
}

fn is_slow(name: &str) -> bool {
    name.contains("drips") || name.contains("103s")
}

/// The fetch ends, well before anybody would call it hung.
async fn fails(name: &str, validator: &Validator) {
    let fetch = tokio::time::timeout(30 * SECOND, validator.warm_up());
    fetch.await.expect("it ends").expect_err(name);
}
