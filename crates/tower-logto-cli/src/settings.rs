//! The arguments and functions that several commands share.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use clap::Args;
use tower_logto::{Issuer, TrustedIssuer, Validator};

use crate::Failure;

/// The argument that selects the Logto tenant.
#[derive(Debug, Args)]
pub(crate) struct Endpoint {
    /// Logto's endpoint, such as https://tenant.logto.app. Logto's Console shows the endpoint on
    /// the page of each application.
    #[arg(long, env = "LOGTO_ENDPOINT")]
    endpoint: Option<String>,
}

impl Endpoint {
    pub(crate) fn issuer(&self) -> Result<Issuer, Failure> {
        let Some(endpoint) = &self.endpoint else {
            return Err(Failure::usage(
                "no endpoint is set: pass --endpoint or set LOGTO_ENDPOINT, for example \
                 https://tenant.logto.app",
            ));
        };
        Issuer::logto(endpoint).map_err(Failure::usage)
    }
}

/// Builds a validator for one resource, for organizations, or for both.
pub(crate) fn validator(
    issuer: &Issuer,
    resource: Option<&str>,
    organizations: bool,
    jwks: Option<String>,
) -> Result<Validator, Failure> {
    let mut trusted = TrustedIssuer::new(issuer);
    if let Some(resource) = resource {
        trusted = trusted.audience(resource);
    }
    if organizations {
        trusted = trusted.organizations();
    }
    if let Some(jwks) = jwks {
        trusted = trusted.static_jwks(jwks);
    }
    Validator::builder().trust(trusted).build().map_err(Failure::usage)
}

/// Reads UTF-8 text of at most `limit` bytes.
pub(crate) fn read_limited(source: impl Read, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    if source.take(limit + 1).read_to_string(&mut text)? as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(text)
}

pub(crate) fn read_file(path: &Path, limit: u64) -> Result<String, Failure> {
    fs::File::open(path)
        .and_then(|file| read_limited(file, limit))
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
