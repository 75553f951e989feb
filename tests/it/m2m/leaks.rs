//! Neither secret nor token in any error, any `Debug`, any log line.

use std::{
    cell::RefCell,
    error::Error,
    io,
    sync::{Arc, Mutex, Once},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tower_logto::{
    m2m::{BearerLayer, ClientAuthentication, ManagementApi, TokenRequest},
    testing::ManualClock,
};
use tracing_subscriber::fmt::MakeWriter;

use super::support::{
    SECRET, SHOPPING, Server, answer, at_once, background_tasks_done, captured, granted, json, read,
};

const TOKEN: &str = "eyJhbGciOiJFUzM4NCJ9.dG9wIHNlY3JldA.c2lnbmF0dXJl";

/// Everything that went through `tracing` on this thread, down to TRACE and from every crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let traced = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        LOGGED.with_borrow(|logged| traced + logged.as_deref().unwrap_or_default())
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// What went through `log`, as reqwest's lines do, while this thread listens.
    static LOGGED: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LOGGED.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(text) = logged {
                text.push_str(&format!("{} {}\n", record.level(), record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// Listens to `tracing` and `log` on this thread until the guard is dropped.
fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Listener).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    crate::support::log_on_every_thread();
    LOGGED.set(Some(String::new()));
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn assert_no_leak(text: &str) {
    let basic = BASE64_STANDARD.encode(format!("app:{SECRET}"));
    for secret in [SECRET, &basic, TOKEN, "dG9wIHNlY3JldA", "c2lnbmF0dXJl"] {
        assert!(!text.contains(secret), "{secret:?} in: {text}");
    }
}

fn everything_about(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn no_failure_leaks() {
    let (log, _guard) = listen();

    let token = format!("{{\"access_token\":\"{TOKEN}\",\"token_type\":\"Bearer\"}}");
    let jsons = "content-type: application/json\r\n";
    let echo = |text: String| {
        let body = format!("{{\"error\":\"invalid_client\",\"error_description\":\"{text}\"}}");
        json("401 Unauthorized", &body)
    };
    let basic = BASE64_STANDARD.encode(format!("app:{SECRET}"));
    let mut answers = vec![
        Vec::new(),
        b"gibberish\r\n\r\n".to_vec(),
        // Answers that quote what they were asked, or hold a token in an unexpected place.
        echo(format!("bad secret {SECRET}")),
        echo(format!("bad header Basic {basic}")),
        json("400 x", &format!("{{\"error\":\"{SECRET}\"}}")),
        json("400 x", &token),
        json("201 Created", &token),
        json("200 OK", &format!("\"{TOKEN}\"")),
        json("200 OK", &format!("{{\"access_token\":{{\"{TOKEN}\":1}},\"token_type\":1}}")),
        json("200 OK", &format!("{{\"access_token\":\"{TOKEN}\",\"token_type\":\"{TOKEN}\"}}")),
        json("200 OK", &token[..token.len() - 1]),
        answer("200 OK", "content-type: text/html\r\n", &format!("<html>{SECRET}{TOKEN}")),
        format!("HTTP/1.1 200 OK\r\n{jsons}content-length: 9999\r\n\r\n{token}").into_bytes(),
        answer("307 x", &format!("location: http://127.0.0.1:1/{SECRET}\r\n"), ""),
        // A success, too: without the scope.
        json("200 OK", &token),
    ];
    for entry in std::fs::read_dir("tests/fixtures/logto-captures/token-endpoint").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        answers.push(captured(&format!("token-endpoint/{name}")));
    }
    for bytes in answers {
        let server = Server::start(move |_, _| bytes.clone()).await;
        for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
            let verbose = || reqwest::Client::builder().connection_verbose(true);
            let builder =
                server.client().authentication(authentication).http_client_builder(verbose);
            let builder = builder.clock(ManualClock::default());
            assert_no_leak(&format!("{builder:?}"));
            let tokens = builder.build().unwrap();
            let request = TokenRequest::resource(SHOPPING).scopes(["not:granted"]);
            let error = tokens.token(&request).await.unwrap_err();
            assert_no_leak(&everything_about(&error));
            let again = at_once(tokens.token(&request)).expect("backed off").unwrap_err();
            assert_no_leak(&everything_about(&again));
            assert_no_leak(&format!("{tokens:?}"));
        }
    }
    background_tasks_done().await;
    let text = log.text();
    assert!(text.contains("no access token"), "the log was captured");
    assert!(text.contains("DEBUG starting new connection"), "reqwest's lines, too");
    assert_no_leak(&text);
}

#[tokio::test]
async fn no_success_leaks_either() {
    let (log, _guard) = listen();

    let server = Server::start(|_, received| {
        if received.head.starts_with("POST /oidc/token") {
            return granted(TOKEN);
        }
        // A Management API that quotes what it should not.
        let quoted =
            format!("{{\"code\":\"auth.unauthorized\",\"data\":{{\"token\":\"{TOKEN}\"}}}}");
        json("401 Unauthorized", &quoted)
    })
    .await;
    let verbose = || reqwest::Client::builder().connection_verbose(true);
    let builder = server.client().http_client_builder(verbose).clock(ManualClock::default());
    let tokens = builder.build().unwrap();
    let token = tokens.token(&read()).await.unwrap();
    assert_eq!(token.secret(), TOKEN);
    assert!(token.authorization().is_sensitive());
    assert_no_leak(&format!("{token:?} {token:#?} {:?}", token.authorization()));
    assert_no_leak(&format!("{:?}", BearerLayer::<String>::new(&tokens, read())));

    let api = ManagementApi::new(&server.endpoint(), &tokens, read()).unwrap();
    let error = api.get::<u64>("/api/users/count").await.unwrap_err();
    assert_no_leak(&format!("{api:?} {}", everything_about(&error)));
    tokens.invalidate(&token);
    background_tasks_done_but_pooled(&log).await;
    assert_no_leak(&log.text());
}

/// The Management API's pool keeps its connections: nothing to wait for beyond the last answer.
async fn background_tasks_done_but_pooled(log: &Log) {
    while !log.text().contains("access token issued") {
        tokio::task::yield_now().await;
    }
}
