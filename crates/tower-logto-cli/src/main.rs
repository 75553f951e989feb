//! The command-line tool of tower-logto: `explain`, `token`, `keys` and `revoke`.

mod explain;
mod keys;
mod revoke;
mod settings;
mod token;

use std::{fmt, process::ExitCode};

use clap::{Parser, Subcommand};

/// Requests and revokes Logto access tokens, explains why a token is refused, and lists signing
/// keys.
#[derive(Debug, Parser)]
#[command(name = "tower-logto", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Explains every check of an access token.
    ///
    /// Exit code: 0 if the token is accepted, 1 if it is refused or the keys are unavailable, 2 for
    /// wrong usage.
    Explain(explain::Explain),
    /// Requests an access token with the client credentials grant, and prints the token.
    Token(token::Token),
    /// Lists the signing keys of an issuer. For each key that the library skips, the list shows the
    /// reason.
    Keys(keys::Keys),
    /// Stores a revocation rule in Redis. Every service that shares its rules over this Redis
    /// server then refuses the tokens that match the rule.
    Revoke(revoke::Revoke),
}

/// The error of a command. The variant determines the exit code.
#[derive(Debug)]
enum Failure {
    /// A wrong argument or setting: exit code 2.
    Usage(String),
    /// A negative result (such as a refused token) or a failed request: exit code 1.
    Negative(String),
}

impl Failure {
    fn usage(error: impl fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn negative(error: impl fmt::Display) -> Self {
        Self::Negative(error.to_string())
    }
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit(Err(Failure::negative(error))),
    };
    exit(runtime.block_on(async {
        match command {
            Command::Explain(explain) => explain.run().await,
            Command::Token(token) => token.run().await,
            Command::Keys(keys) => keys.run().await,
            Command::Revoke(revoke) => revoke.run().await,
        }
    }))
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    let (message, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Negative(message)) => (message, 1),
    };
    if !message.is_empty() {
        anstream::eprintln!("error: {message}");
    }
    ExitCode::from(code)
}
