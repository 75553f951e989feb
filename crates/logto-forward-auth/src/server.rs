//! The server: it answers the proxy, with a limit of connections and a timeout for headers.

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, sync::Semaphore, sync::watch};

use crate::{
    config::Config,
    decision::{self, Empty},
};

/// The current configuration. Requests that are under way keep the one they started with.
pub(crate) type Current = watch::Sender<Arc<Config>>;

/// Serves until the future `stop` completes, and then finishes the requests under way.
pub(crate) async fn serve(listener: TcpListener, current: Current, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // At the limit, new connections wait in the queue of the kernel.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (connection, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = connection else {
            // Out of file descriptors, most likely: wait until connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let current = current.clone();
        let service = service_fn(move |request| {
            let config = Arc::clone(&current.borrow());
            async move { Ok::<_, Infallible>(respond(&config, &request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // An error is a broken connection, which concerns its proxy alone.
            let _ = connection.await;
            drop(permit);
        });
    }
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
}

async fn respond(config: &Config, request: &Request<Incoming>) -> Response<Empty> {
    let status = match (request.method(), request.uri().path()) {
        (_, "/auth") => return decision::decide(config, request.headers()).await,
        (&Method::GET, "/-/live") => StatusCode::OK,
        (&Method::GET, "/-/ready") => match config.validator.warm_up().await {
            Ok(()) => StatusCode::OK,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

/// Reads the file again. If it is wrong, the current configuration stays.
pub(crate) fn reload(current: &Current, path: &Path) {
    match Config::read(path) {
        Ok(config) => {
            if config.listen != current.borrow().listen {
                tracing::warn!("listen has changed, which needs a restart");
            }
            tracing::info!(rules = %config.rules, "configuration reloaded");
            current.send_replace(Arc::new(config));
        }
        Err(problem) => {
            tracing::error!("configuration not reloaded; the old one stays in use: {problem}");
        }
    }
}

const MAX_CONNECTIONS: usize = 4_096;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64 * 1024;
