//! The command `tower-logto explain`.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anstyle::{AnsiColor, Style};
use clap::Args;
use tower_logto::{
    Issuer,
    explain::{Explanation, Outcome, Verdict},
};

use crate::{
    Failure,
    settings::{Endpoint, read_file, read_limited, validator},
};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The access token. Without this argument, the token is read from standard input, which keeps
    /// the token out of the shell's history.
    token: Option<String>,
    #[command(flatten)]
    endpoint: Endpoint,
    /// The API's resource indicator, which the token must have as its audience.
    #[arg(long, env = "LOGTO_RESOURCE")]
    resource: Option<String>,
    /// Also checks that the token has this scope. May be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Also checks that the token is for this organization.
    #[arg(long)]
    organization: Option<String>,
    /// Reads the key set from this file, and sends no request.
    #[arg(long, value_name = "JWKS_FILE")]
    offline: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let issuer = self.endpoint.issuer()?;
        if self.resource.is_none() && self.organization.is_none() {
            return Err(Failure::usage(
                "no resource is set: pass --resource or set LOGTO_RESOURCE, for example \
                 https://shopping.api; Logto's Console lists the API resources and their \
                 indicators",
            ));
        }
        let token = match &self.token {
            Some(token) => token.clone(),
            None => read_token()?,
        };
        let explanation = self.explanation(&issuer, token.trim()).await?;
        if self.json {
            let json = serde_json::to_string_pretty(&explanation).map_err(Failure::negative)?;
            anstream::println!("{json}");
        } else {
            print(&explanation);
        }
        match explanation.verdict() {
            Verdict::Accepted => Ok(()),
            _ => Err(Failure::Negative(String::new())),
        }
    }

    async fn explanation(&self, issuer: &Issuer, token: &str) -> Result<Explanation, Failure> {
        let jwks = self.offline.as_deref().map(|path| read_file(path, MAX_JWKS)).transpose()?;
        let organizations = self.organization.is_some();
        let validator = validator(issuer, self.resource.as_deref(), organizations, jwks)?;
        let mut explanation = validator.explain(token).await;
        if let Some(organization) = &self.organization {
            explanation = explanation.require_organization(organization);
        }
        if !self.scopes.is_empty() {
            explanation = explanation.require_scopes(self.scopes.iter().map(String::as_str));
        }
        Ok(explanation)
    }
}

fn read_token() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::usage(
            "no token: pass the token as an argument or through standard input, for example \
             `pbpaste | tower-logto explain`",
        ));
    }
    read_limited(io::stdin(), MAX_TOKEN).map_err(|error| Failure::usage(format!("stdin: {error}")))
}

/// Prints the explanation. The outcomes are coloured on a terminal, unless `NO_COLOR` is set.
fn print(explanation: &Explanation) {
    let text = explanation.to_string();
    for line in text.lines() {
        let style = style_of(line.split_whitespace().next().unwrap_or_default());
        let (label, rest) =
            line.split_at_checked(8).filter(|_| style.is_some()).unwrap_or(("", line));
        let style = style.unwrap_or_default();
        anstream::println!("{style}{label}{style:#}{rest}");
    }
}

fn style_of(label: &str) -> Option<Style> {
    let colour = match label {
        _ if label == Outcome::Passed.label() => AnsiColor::Green,
        _ if label == Outcome::Failed.label() => AnsiColor::Red,
        _ if label == Outcome::Skipped.label() || label == Outcome::Unknown.label() => {
            AnsiColor::Yellow
        }
        _ => return None,
    };
    Some(colour.on_default().bold())
}

const MAX_TOKEN: u64 = 64 * 1024;
pub(crate) const MAX_JWKS: u64 = 256 * 1024;
