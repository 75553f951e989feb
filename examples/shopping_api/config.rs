//! The settings: environment variables. An error names the variable.

use std::{env, fmt::Display, str::FromStr, time::Duration};

use tower_logto::{Issuer, TrustedIssuer, Validator};

pub(crate) struct Config {
    /// The port of the API.
    pub(crate) port: u16,
    /// The port of the embedded issuer.
    pub(crate) issuer_port: u16,
    /// The endpoint of a Logto tenant; `None` for the embedded issuer.
    pub(crate) endpoint: Option<String>,
    /// The API's resource indicator.
    pub(crate) resource: String,
    jwks_uri: Option<String>,
    clock_tolerance: Option<Duration>,
    cooldown: Option<Duration>,
}

impl Config {
    pub(crate) fn from_env() -> Result<Self, String> {
        let seconds = |name| Ok::<_, String>(parsed(name)?.map(Duration::from_secs));
        match text("LOGTO_ALLOW_HTTP")?.as_deref() {
            // The crate reads it too; here only the value is checked.
            None | Some("0" | "1") => {}
            Some(other) => return Err(format!("LOGTO_ALLOW_HTTP: {other:?} is neither 1 nor 0")),
        }
        Ok(Self {
            port: parsed("PORT")?.unwrap_or(3000),
            issuer_port: parsed("ISSUER_PORT")?.unwrap_or(3001),
            endpoint: text("LOGTO_ENDPOINT")?,
            resource: text("LOGTO_RESOURCE")?.unwrap_or_else(|| "https://shopping.api".into()),
            jwks_uri: text("LOGTO_JWKS_URI")?,
            clock_tolerance: seconds("LOGTO_CLOCK_TOLERANCE_SECS")?,
            cooldown: seconds("LOGTO_JWKS_COOLDOWN_SECS")?,
        })
    }

    /// Builds the issuer and the validator of an endpoint, for the API at this URL.
    pub(crate) fn validator(
        &self,
        endpoint: &str,
        url: &str,
    ) -> Result<(Issuer, Validator), String> {
        let issuer = Issuer::logto(endpoint).map_err(|error| named("LOGTO_ENDPOINT", &error))?;
        let mut trusted = TrustedIssuer::new(&issuer).audience(&self.resource).organizations();
        if let Some(uri) = &self.jwks_uri {
            trusted = trusted.jwks_uri(uri);
        }
        if let Some(tolerance) = self.clock_tolerance {
            trusted = trusted.clock_tolerance(tolerance);
        }
        let mut builder = Validator::builder()
            .trust(trusted)
            .realm("shopping")
            .resource_metadata(format!("{url}{}", self.metadata_path()));
        if let Some(cooldown) = self.cooldown {
            builder = builder.unknown_key_cooldown(cooldown);
        }
        let variable = |setting| match setting {
            "audience" => "LOGTO_RESOURCE",
            "jwks_uri" if self.jwks_uri.is_none() => "LOGTO_ENDPOINT",
            "jwks_uri" => "LOGTO_JWKS_URI",
            "clock_tolerance" => "LOGTO_CLOCK_TOLERANCE_SECS",
            "unknown_key_cooldown" => "LOGTO_JWKS_COOLDOWN_SECS",
            other => other,
        };
        let validator =
            builder.build().map_err(|error| named(variable(error.setting()), &error))?;
        Ok((issuer, validator))
    }

    fn metadata_path(&self) -> String {
        tower_logto::ProtectedResourceMetadata::new(&self.resource, []).path()
    }
}

fn named(variable: &str, error: &impl Display) -> String {
    format!("{variable}: {error}")
}

/// Reads a variable. An empty one counts as not set.
fn text(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name}: the value is not UTF-8")),
    }
}

fn parsed<T: FromStr<Err: Display>>(name: &str) -> Result<Option<T>, String> {
    let parse = |value: String| {
        value
            .parse()
            .map_err(|error| format!("{name}: {value:?} is not a whole number in range ({error})"))
    };
    text(name)?.map(parse).transpose()
}
