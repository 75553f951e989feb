//! Forward authentication with Logto access tokens, for nginx `auth_request` and Caddy
//! `forward_auth`.

mod auth;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod pattern;
mod rules;
mod server;
mod target;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{config::Config, server::Server};

/// Validates Logto access tokens for nginx auth_request and Caddy forward_auth.
///
/// On SIGHUP, the server reads the configuration file again. On SIGTERM, the server stops. The
/// environment variable RUST_LOG sets the log level.
#[derive(Debug, Parser)]
#[command(name = "logto-forward-auth", version, about)]
struct Cli {
    /// The file with the settings and the rules.
    #[arg(long, short, env = "LOGTO_FORWARD_AUTH_CONFIG", default_value = "forward-auth.toml")]
    config: PathBuf,
    /// Checks the file and exits.
    #[arg(long)]
    check: bool,
    /// Starts a test issuer, a service and the server, sends requests, and prints the results.
    #[cfg(feature = "demo")]
    #[arg(long)]
    demo: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(format!("the runtime cannot start: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), String> {
    #[cfg(feature = "demo")]
    if cli.demo {
        return demo::run().await;
    }
    if cli.check {
        let config = Config::read(&cli.config).map_err(|error| error.to_string())?;
        println!("{}: {} rules, no mistakes", cli.config.display(), config.rules.len());
        return Ok(());
    }
    let no_signals = |error: io::Error| format!("signals cannot be received: {error}");
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let server = Server::open(cli.config).await?;
    let address = server.address().map_err(|error| error.to_string())?;
    let reload = server.reloader();
    tracing::info!(%address, "listening");
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    server.run(stop).await;
    Ok(())
}
