//! Forward authentication with Logto access tokens: answers whether a request that a proxy received
//! is allowed. See the README for the rules, and for the configurations of nginx and Caddy.

mod config;
mod decision;
mod demo;
mod rules;
mod server;
mod target;

use std::{env, path::PathBuf, process::ExitCode, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use crate::{config::Config, server::Current};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments: Vec<_> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--demo"] => demo::run().await,
        [file] if !file.starts_with('-') => run(PathBuf::from(file)).await,
        _ => Err("usage: logto-forward-auth FILE.toml, or logto-forward-auth --demo".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("logto-forward-auth: {problem}");
            ExitCode::from(2)
        }
    }
}

async fn run(path: PathBuf) -> Result<(), String> {
    let config = Config::read(&path)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("listen: {} is unavailable: {error}", config.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let signals = |kind| signal(kind).map_err(|error| format!("no signal handler: {error}"));
    let (mut reload, mut terminate) =
        (signals(SignalKind::hangup())?, signals(SignalKind::terminate())?);
    let mut interrupt = signals(SignalKind::interrupt())?;
    tracing::info!(rules = %config.rules, "configuration loaded");
    let current: Current = watch::Sender::new(Arc::new(config));
    println!("listening on {address}");
    let reloaded = current.clone();
    tokio::spawn(async move {
        while reload.recv().await.is_some() {
            server::reload(&reloaded, &path);
        }
    });
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(listener, current, stop).await;
    Ok(())
}
