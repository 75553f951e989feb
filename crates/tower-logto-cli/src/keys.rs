//! The command `tower-logto keys`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::{Client, redirect::Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_logto::{Algorithm, Issuer, TrustedIssuer, Validator};

use crate::{
    Failure,
    explain::MAX_JWKS,
    settings::{Endpoint, read_file},
};

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Reads the key set from this file, and sends no request.
    #[arg(long, value_name = "JWKS_FILE")]
    offline: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// An entry of the key set.
#[derive(Serialize)]
struct Key {
    kid: Option<String>,
    kty: Option<String>,
    /// The signature algorithms for which the library uses this key.
    algorithms: Vec<&'static str>,
    /// The reason why the library skips this key, or `None` if the library uses the key.
    skipped: Option<String>,
}

impl Keys {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let issuer = self.endpoint.issuer()?;
        let json = match &self.offline {
            Some(path) => read_file(path, MAX_JWKS)?,
            None => fetch(&format!("{}/jwks", issuer.as_str())).await?,
        };
        let set = serde_json::from_str::<JwkSet>(&json)
            .map_err(|_| Failure::negative("the key set is not a valid JWK Set (RFC 7517 §5)"))?;
        let keys: Vec<_> = set.keys.iter().map(|jwk| Key::new(&issuer, jwk, &set.keys)).collect();
        if self.json {
            let json = serde_json::to_string_pretty(&keys).map_err(Failure::negative)?;
            anstream::println!("{json}");
        } else {
            keys.iter().for_each(Key::print);
        }
        match keys.iter().any(|key| key.skipped.is_none()) {
            true => Ok(()),
            false => Err(Failure::negative("the key set has no usable signing key")),
        }
    }
}

impl Key {
    fn new(issuer: &Issuer, jwk: &Value, all: &[Value]) -> Self {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::to_owned);
        let usable = |algorithms: &[Algorithm]| {
            let alone = serde_json::json!({ "keys": [jwk] }).to_string();
            let trusted = TrustedIssuer::new(issuer).audience("urn:any").static_jwks(alone);
            let trusted = trusted.algorithms(algorithms.iter().copied());
            Validator::builder().trust(trusted).build()
        };
        let is_usable = |algorithm: &Algorithm| usable(&[*algorithm]).is_ok();
        let algorithms = Algorithm::LOGTO.into_iter().filter(is_usable).map(Algorithm::name);
        let same = |other: &&Value| {
            other.get("kid") == jwk.get("kid") && other.get("alg") == jwk.get("alg")
        };
        let skipped = match usable(&Algorithm::LOGTO) {
            Err(error) => Some(reason(&error.to_string())),
            Ok(_) if all.iter().filter(same).count() > 1 => {
                Some("another key has the same kid and algorithm".to_owned())
            }
            Ok(_) => None,
        };
        Self { kid: text("kid"), kty: text("kty"), algorithms: algorithms.collect(), skipped }
    }

    fn print(&self) {
        // The key set is untrusted input, so text from it is escaped and truncated.
        let escaped = |text: &Option<String>| match text {
            Some(text) => text.escape_debug().take(80).collect(),
            None => "none".to_owned(),
        };
        let use_of_key = match &self.skipped {
            Some(reason) => format!("skipped: {reason}"),
            None => self.algorithms.join(", "),
        };
        anstream::println!("kid {}  {}  {use_of_key}", escaped(&self.kid), escaped(&self.kty));
    }
}

/// Extracts the reason from an error message of the library. The text before the reason names the
/// setting and says that the whole key set is unusable.
fn reason(error: &str) -> String {
    error.rsplit_once(NO_USABLE_KEY).map_or(error, |(_, reason)| reason).to_owned()
}

async fn fetch(url: &str) -> Result<String, Failure> {
    let unreachable = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failure::negative(format!("{url} could not be reached: {cause}"))
    };
    let client = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build();
    let mut response = client.map_err(unreachable)?.get(url).send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(Failure::negative(format!("{url} answered {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > MAX_JWKS {
            return Err(Failure::negative(format!("{url} answered with over {MAX_JWKS} bytes")));
        }
    }
    String::from_utf8(body).map_err(|_| Failure::negative(format!("{url}: the body is not UTF-8")))
}

/// If a key set has no usable key, the message of the library's error ends with this text and the
/// reason.
const NO_USABLE_KEY: &str = "no usable signing key: ";
const TIMEOUT: Duration = Duration::from_secs(10);
