//! What several concerns share.

use std::path::PathBuf;

use axum::Router;
use reqwest::{Client, RequestBuilder, Response};
use tokio::{net::TcpListener, task::JoinHandle};
use tower_logto::{
    Validator, ValidatorBuilder,
    error::{AuthErrorKind, InvalidToken},
    testing::{ManualClock, TestIssuer},
};

pub(crate) const SHOP: &str = "https://shopping.api";

/// A file of `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A Logto and the clock that its tokens and the validators of a test go by.
pub(crate) struct Stage {
    pub(crate) logto: TestIssuer,
    pub(crate) clock: ManualClock,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let clock = ManualClock::default();
        let logto = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
        Self { logto, clock }
    }

    /// For the shop's API and for organizations.
    pub(crate) fn builder(&self) -> ValidatorBuilder {
        let trusted = self.logto.trusted(SHOP).organizations();
        Validator::builder().trust(trusted).clock(self.clock.clone())
    }

    pub(crate) fn validator(&self) -> Validator {
        self.builder().build().unwrap()
    }
}

/// A service on a loopback port, over real HTTP; gone when dropped.
pub(crate) struct Server {
    url: String,
    client: Client,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap(), task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.request("GET", path).bearer_auth(token).send().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The header of a response as text; empty when it is not there.
pub(crate) fn header<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Why a token is refused.
pub(crate) fn invalid(kind: &AuthErrorKind) -> &InvalidToken {
    match kind {
        AuthErrorKind::InvalidToken(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// Runs on a thread of its own, and says whether it came to an end.
pub(crate) fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    ended.recv_timeout(std::time::Duration::from_secs(10)).is_ok()
}

/// A runtime that has just been shut down, and its handle: what is spawned there is dropped at once.
pub(crate) fn ended_runtime() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.handle().clone()
}

/// Before a test captures what its thread logs: without a subscriber of its own, another test's
/// thread that is the first to come by an event would switch it off for all threads.
pub(crate) fn log_on_every_thread() {
    static EVERYWHERE: std::sync::Once = std::sync::Once::new();
    EVERYWHERE.call_once(|| {
        let nowhere = tracing_subscriber::fmt().with_env_filter("trace").with_writer(std::io::sink);
        tracing::subscriber::set_global_default(nowhere.finish()).unwrap();
    });
}
