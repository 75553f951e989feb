//! The HTTP server: accepts connections, answers requests, reloads the file and shuts down.

use std::{convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{auth::Authorizer, config::Config};

/// The server with an open port. It starts to accept connections when [`run`](Self::run) is called.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    file: PathBuf,
    current: Arc<ArcSwap<Authorizer>>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Reads the file and opens the port. The error says what is wrong and how to fix it.
    pub(crate) async fn open(file: PathBuf) -> Result<Self, String> {
        let config = Config::read(&file).map_err(|error| error.to_string())?;
        let listen = config.listen;
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let authorizer = Authorizer::new(config, None)?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            format!("{}: listen: {listen} cannot be opened: {error}", file.display())
        })?;
        let current = Arc::new(ArcSwap::from_pointee(authorizer));
        Ok(Self { listener, file, current, connections })
    }

    pub(crate) fn address(&self) -> io::Result<std::net::SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns a function that reads the file again. If the reload fails, the server keeps the old
    /// rules.
    pub(crate) fn reloader(&self) -> impl Fn() + Send + 'static {
        let (file, current) = (self.file.clone(), Arc::clone(&self.current));
        move || {
            let old = current.load_full();
            let reloaded = Config::read(&file).map_err(|error| error.to_string()).and_then(|new| {
                if new.listen != old.config.listen
                    || new.max_connections != old.config.max_connections
                {
                    tracing::warn!(
                        "the setting `listen` or `max_connections` changed; restart the server to \
                         apply the change"
                    );
                }
                Authorizer::new(new, Some(&old))
            });
            match reloaded {
                Ok(new) => {
                    tracing::info!(rules = new.config.rules.len(), "rules reloaded");
                    current.store(Arc::new(new));
                }
                Err(error) => tracing::error!(%error, "reload failed; the old rules stay in force"),
            }
        }
    }

    /// Serves requests until `stop` completes. After that, requests in flight have 10 s to
    /// complete.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        self.warm_up();
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = &mut stop => break,
            };
            let Some((stream, permit)) = accepted else { continue };
            let current = Arc::clone(&self.current);
            let service = service_fn(move |request| {
                let current = current.load_full();
                async move { Ok::<_, Infallible>(respond(&current, request).await) }
            });
            let mut builder = http1::Builder::new();
            // If `header_read_timeout` is set without a timer, hyper panics. hyper also closes idle
            // connections after this timeout.
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
            builder.max_header_size(MAX_HEADER_SIZE).max_buf_size(MAX_HEADER_SIZE);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection failed");
                }
                drop(permit);
            });
        }
        drop(self.listener);
        tracing::info!("stopping");
        if tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests in flight did not complete in time");
        }
    }

    /// Waits until the connection limit permits another connection, and then waits for a client to
    /// connect. Returns `None` if the connection could not be accepted.
    async fn accept(&self) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                Some((stream, permit))
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                // Most likely the process has too many open files. Immediate retries would keep a
                // CPU core busy.
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                None
            }
        }
    }

    /// Fetches the keys in the background, so that the first request does not have to wait for
    /// them.
    fn warm_up(&self) {
        let validator = self.current.load().validator.clone();
        tokio::spawn(async move {
            if let Err(error) = validator.warm_up().await {
                tracing::warn!(%error, "JWKS fetch failed; the next request tries again");
            }
        });
    }
}

async fn respond(current: &Authorizer, request: Request<Incoming>) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/auth") => return current.respond(request.headers()).await,
        (&Method::GET | &Method::HEAD, "/-/ready") => (StatusCode::OK, "ready\n"),
        (_, "/auth" | "/-/ready") => (StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => (StatusCode::NOT_FOUND, ""),
    };
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = status;
    response
}

/// The time limit for a client to send the headers of a request. The time counts from the start of
/// the connection, or from the end of the previous response on the connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for requests in flight to complete after the signal to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay after a failed attempt to accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// The maximum size of the head of a request, in bytes.
const MAX_HEADER_SIZE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const FILE: &str = "listen = \"127.0.0.1:0\"\nproxy = \"nginx\"\n[logto]\n\
                        endpoint = \"http://127.0.0.1:1\"\nresource = [\"https://shopping.api\"]\n\
                        [[rule]]\nmethods = [\"GET\"]\npath = \"/\"\npublic = true\n";

    /// The runtime's clock is paused. As soon as all tasks wait, tokio advances the clock to the
    /// timeout.
    #[tokio::test(start_paused = true)]
    async fn connections_without_a_complete_request_are_closed() {
        let file = std::env::temp_dir().join(format!("timeout-{}.toml", std::process::id()));
        std::fs::write(&file, FILE).unwrap();
        let server = Server::open(file.clone()).await.unwrap();
        std::fs::remove_file(file).unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.run(std::future::pending()));
        for bytes in [&b""[..], b"GET /auth HTTP/1.1\r\nX-Original-URI: /"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let closed = tokio::time::timeout(2 * HEADER_READ_TIMEOUT, async {
                while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
            });
            assert!(closed.await.is_ok(), "{}", bytes.escape_ascii());
        }
    }
}
