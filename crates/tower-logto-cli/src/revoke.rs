//! The command `tower-logto revoke`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use tower_logto::revocation::{RedisStore, Revocations, StoreError};

use crate::{
    Failure,
    settings::{Endpoint, read_file},
};

/// The URL of Redis may contain a password, and other users of the machine can see the arguments of
/// a command. The URL is therefore not an argument. It comes from the variable `REDIS_URL` or from
/// a file.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("target").required(true).args(["subject", "client", "organization", "token_id"])
        .multiple(true)
))]
pub(crate) struct Revoke {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The prefix of the Redis keys. The RedisStore of each service must have the same prefix.
    #[arg(long, env = "LOGTO_REDIS_PREFIX")]
    prefix: String,
    /// A file with the URL of Redis. Without this option, the variable REDIS_URL is used.
    #[arg(long, value_name = "FILE")]
    redis_url_file: Option<PathBuf>,
    /// Revokes the tokens of this subject (a user or a machine-to-machine application). With
    /// --organization, revokes only the subject's tokens for that organization.
    #[arg(long)]
    subject: Option<String>,
    /// Revokes the tokens that were issued to the application with this id.
    #[arg(long, conflicts_with_all = ["subject", "organization", "token_id"])]
    client: Option<String>,
    /// Revokes the tokens for this organization.
    #[arg(long, conflicts_with = "token_id")]
    organization: Option<String>,
    /// Revokes the token with this jti.
    #[arg(long, conflicts_with = "subject")]
    token_id: Option<String>,
    /// Also blocks the subject. Tokens that the subject gets later are refused too, until you run
    /// the command with --reactivate.
    #[arg(long, conflicts_with_all = ["organization", "reactivate"])]
    block: bool,
    /// Lifts the block of the subject. Tokens that were already issued stay refused.
    #[arg(long, conflicts_with = "organization")]
    reactivate: bool,
}

impl Revoke {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let issuer = self.endpoint.issuer()?;
        let store = RedisStore::new(&self.redis_url()?, &self.prefix).map_err(Failure::usage)?;
        let revocations = Revocations::builder([&issuer]).redis(store);
        let revocations = revocations.build().map_err(Failure::usage)?;
        if self.subject.is_none() && (self.block || self.reactivate) {
            return Err(Failure::usage("--block and --reactivate need --subject"));
        }
        let effect = self.store(&revocations).await.map_err(Failure::negative)?;
        anstream::println!("{effect}");
        Ok(())
    }

    /// Stores the rule, and returns a sentence that describes the effect of the rule.
    async fn store(&self, rules: &Revocations) -> Result<String, StoreError> {
        let issued = "that were already issued are refused.";
        Ok(match (&self.subject, &self.client, &self.organization, &self.token_id) {
            (Some(subject), _, Some(organization), _) => {
                rules.revoke_member(organization, subject).await?;
                format!("Tokens of {subject:?} for {organization:?} {issued}")
            }
            (Some(subject), ..) if self.block => {
                rules.block_subject(subject).await?;
                format!("All tokens of {subject:?} are refused.")
            }
            (Some(subject), ..) if self.reactivate => {
                rules.reactivate_subject(subject).await?;
                format!("New tokens of {subject:?} are accepted.")
            }
            (Some(subject), ..) => {
                rules.revoke_subject(subject).await?;
                format!("Tokens of {subject:?} {issued}")
            }
            (_, Some(client), ..) => {
                rules.revoke_client(client).await?;
                format!("Tokens of the application {client:?} {issued}")
            }
            (_, _, Some(organization), _) => {
                rules.revoke_organization(organization).await?;
                format!("Tokens for the organization {organization:?} {issued}")
            }
            (_, _, _, Some(id)) => {
                rules.revoke_token(id).await?;
                format!("The token {id:?} is refused.")
            }
            // Never reached: clap requires at least one argument of the group `target`.
            (None, None, None, None) => String::new(),
        })
    }

    fn redis_url(&self) -> Result<String, Failure> {
        if let Some(file) = &self.redis_url_file {
            return Ok(read_file(file, 4096)?.trim_end().to_owned());
        }
        std::env::var("REDIS_URL").map_err(|_| {
            Failure::usage("no Redis URL is set: set REDIS_URL or pass --redis-url-file")
        })
    }
}
