//! The command `tower-logto token`.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::Args;
use tower_logto::m2m::{ClientSecret, TokenClient, TokenRequest};

use crate::{
    Failure,
    settings::{Endpoint, read_file, validator},
};

/// The secret is not an argument, because other users of the machine can see arguments. The secret
/// comes from the variable `LOGTO_APP_SECRET`, from a file, or from a prompt.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The id of the machine-to-machine application.
    #[arg(long, env = "LOGTO_APP_ID")]
    app_id: Option<String>,
    /// A file with the application's secret. Default: the variable LOGTO_APP_SECRET, or a prompt.
    #[arg(long, value_name = "FILE", env = "LOGTO_APP_SECRET_FILE")]
    secret_file: Option<PathBuf>,
    /// The resource indicator of the API.
    #[arg(long, env = "LOGTO_RESOURCE", required_unless_present = "organization")]
    resource: Option<String>,
    /// The id of the organization that the token is for.
    #[arg(long)]
    organization: Option<String>,
    /// A scope that the token must have. May be repeated.
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// Also prints the granted scopes and an explanation of the token, to standard error.
    #[arg(long)]
    explain: bool,
}

impl Token {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let issuer = self.endpoint.issuer()?;
        let Some(app_id) = &self.app_id else {
            return Err(Failure::usage(
                "no application is set: pass --app-id or set LOGTO_APP_ID; Logto's Console shows \
                 the id and the secret on the page of the machine-to-machine application",
            ));
        };
        let tokens = TokenClient::new(&issuer, app_id, self.secret()?).map_err(Failure::usage)?;
        let token = tokens.token(&self.request()).await.map_err(Failure::negative)?;
        anstream::println!("{}", token.secret());
        if self.explain {
            let organizations = self.organization.is_some();
            let validator = validator(&issuer, self.resource.as_deref(), organizations, None)?;
            let explanation = validator.explain(token.secret()).await;
            let scopes = token.scopes();
            let scopes = if scopes.is_empty() { "none" } else { scopes.as_str() };
            anstream::eprintln!("Granted scopes: {scopes}");
            anstream::eprint!("{explanation}");
        }
        Ok(())
    }

    fn request(&self) -> TokenRequest {
        let request = match (&self.resource, &self.organization) {
            (Some(resource), Some(organization)) => {
                TokenRequest::resource(resource).in_organization(organization)
            }
            (Some(resource), None) => TokenRequest::resource(resource),
            (None, organization) => {
                TokenRequest::organization(organization.as_deref().unwrap_or_default())
            }
        };
        request.scopes(&self.scopes)
    }

    fn secret(&self) -> Result<ClientSecret, Failure> {
        if let Some(path) = &self.secret_file {
            let secret = read_file(path, MAX_SECRET)?;
            let secret = secret.strip_suffix('\n').unwrap_or(&secret);
            return Ok(ClientSecret::new(secret.strip_suffix('\r').unwrap_or(secret)));
        }
        if let Ok(secret) = std::env::var("LOGTO_APP_SECRET") {
            return Ok(ClientSecret::new(secret));
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "no secret: set LOGTO_APP_SECRET, or pass --secret-file with the name of a file",
            ));
        }
        rpassword::prompt_password("App secret: ").map(ClientSecret::new).map_err(Failure::usage)
    }
}

const MAX_SECRET: u64 = 1024;
