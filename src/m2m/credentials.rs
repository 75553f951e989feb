//! The id and the secret of an application, and how the application authenticates (RFC 6749
//! §2.3.1).

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::byte_serialize;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::error::ConfigError;

/// The secret of a machine-to-machine application.
///
/// `Debug` never shows the secret, and dropping a `ClientSecret` overwrites the secret in memory.
/// However, the token requests contain further copies of the secret, which are not overwritten.
/// With [`Basic`](ClientAuthentication::Basic), there is one copy in a header that the client
/// keeps. With [`Post`](ClientAuthentication::Post), the body of each token request contains a
/// copy.
///
/// ```
/// use tower_logto::m2m::ClientSecret;
///
/// let secret = ClientSecret::new("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5");
/// assert_eq!(format!("{secret:?}"), "ClientSecret(redacted)");
/// ```
///
/// A [`TokenClient`](crate::m2m::TokenClient) takes its secret only as a `ClientSecret`, not as a
/// string. Code that swaps the id and the secret therefore does not compile:
///
/// ```compile_fail,E0308
/// use tower_logto::{m2m::{ClientSecret, TokenClient}, Issuer};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let secret = ClientSecret::new("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5");
/// TokenClient::new(&issuer, secret, "app id")?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// Creates a `ClientSecret` from the text of the secret.
    ///
    /// A `String` is moved without a copy. A `&str` is copied, and the original stays in memory.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(redacted)")
    }
}

/// How the application authenticates to the token endpoint (RFC 6749 §2.3.1).
///
/// ```
/// use tower_logto::{Issuer, m2m::{ClientAuthentication, ClientSecret, TokenClient}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let tokens = TokenClient::builder(&issuer, "app id", ClientSecret::new("app secret"))
///     .authentication(ClientAuthentication::Post)
///     .build()?;
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// `client_secret_basic`, the default. The credentials are in the `Authorization` header.
    #[default]
    Basic,
    /// `client_secret_post`. The credentials are in the body. Use this method if a proxy needs the
    /// `Authorization` header for its own credentials.
    Post,
}

/// Validated credentials.
pub(crate) struct ClientCredentials {
    pub(crate) app_id: Box<str>,
    app_secret: ClientSecret,
    /// The value of the `Authorization` header, or `None` for `client_secret_post`.
    basic: Option<HeaderValue>,
}

impl ClientCredentials {
    pub(crate) fn new(
        app_id: String,
        app_secret: ClientSecret,
        authentication: ClientAuthentication,
    ) -> Result<Self, ConfigError> {
        for (value, setting) in [(&*app_id, "app_id"), (app_secret.expose(), "app_secret")] {
            if value.trim().is_empty() {
                return Err(ConfigError::new(setting, "empty; is the environment variable set?"));
            }
        }
        if let Some(problem) = unreadable_by_logto(app_secret.expose()) {
            return Err(ConfigError::new("app_secret", problem));
        }
        let basic = match authentication {
            ClientAuthentication::Basic => Some(basic_header(&app_id, app_secret.expose())?),
            ClientAuthentication::Post => None,
        };
        Ok(Self { app_id: app_id.into(), app_secret, basic })
    }

    pub(crate) const fn authentication(&self) -> ClientAuthentication {
        match self.basic {
            Some(_) => ClientAuthentication::Basic,
            None => ClientAuthentication::Post,
        }
    }

    /// Returns the `Authorization` header of a token request, or `None` for `client_secret_post`.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.basic.clone()
    }

    /// Returns the form parameters that contain the credentials, or `None` for
    /// `client_secret_basic`.
    pub(crate) fn parameters(&self) -> Option<[(&'static str, &str); 2]> {
        let parameters =
            [("client_id", &*self.app_id), ("client_secret", self.app_secret.expose())];
        self.basic.is_none().then_some(parameters)
    }

    /// Returns whether a text for the log contains the secret, in plain or encoded form. Ignores a
    /// secret shorter than `MIN_SECRET`, because such a secret could occur in any text by chance.
    /// Logto's secrets are longer.
    pub(crate) fn occur_in(&self, text: &str) -> bool {
        let secret = self.app_secret.expose();
        secret.len() >= MIN_SECRET
            && (text.contains(secret)
                || text.contains(&**form_encoded(secret))
                || text.contains(&**base64_pair(&self.app_id, secret)))
    }
}

/// Returns the reason why this secret cannot be valid for any application in Logto. Returns `None`
/// if there is no such reason.
fn unreadable_by_logto(secret: &str) -> Option<&'static str> {
    if secret.ends_with(['\n', '\r']) {
        Some("ends with a line break: trim the text after reading the file")
    } else if secret.chars().any(char::is_control) {
        Some("contains a control character: copy the secret from the Logto Console again")
    } else if !secret.is_ascii() {
        Some("contains a character outside ASCII, which Logto cannot read")
    } else {
        None
    }
}

fn basic_header(app_id: &str, app_secret: &str) -> Result<HeaderValue, ConfigError> {
    let basic = format!("Basic {}", *base64_pair(app_id, app_secret));
    let mut basic = HeaderValue::try_from(basic)
        .map_err(|_| ConfigError::new("app_secret", "cannot be sent in a header"))?;
    basic.set_sensitive(true);
    Ok(basic)
}

/// Joins the form-encoded id and the form-encoded secret with a colon, and base64-encodes the
/// result (RFC 6749 §2.3.1). The form encoding matters for a secret that contains `+`.
///
/// This function and `form_encoded` allocate each buffer with its full capacity. A buffer that
/// grows would leave a copy of the secret in memory.
fn base64_pair(app_id: &str, app_secret: &str) -> Zeroizing<String> {
    let (app_id, app_secret) = (form_encoded(app_id), form_encoded(app_secret));
    let mut pair = Zeroizing::new(String::with_capacity(app_id.len() + 1 + app_secret.len()));
    pair.extend([&**app_id, ":", &**app_secret]);
    let mut base64 = Zeroizing::new(String::with_capacity(pair.len().div_ceil(3) * 4));
    BASE64_STANDARD.encode_string(pair.as_bytes(), &mut base64);
    base64
}

fn form_encoded(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    encoded.extend(byte_serialize(text.as_bytes()));
    encoded
}

const MIN_SECRET: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6749_section_2_3_1_credentials_are_form_encoded() {
        let secret = ClientSecret::new("s+ %:&=/");
        let credentials =
            ClientCredentials::new("a:b".into(), secret, ClientAuthentication::Basic).unwrap();
        let basic = credentials.header().unwrap();
        assert!(basic.is_sensitive());
        let encoded = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "a%3Ab:s%2B+%25%3A%26%3D%2F");
        assert_eq!(credentials.parameters(), None);
    }

    #[test]
    fn a_secret_that_logto_cannot_read_is_refused_with_advice() {
        for (secret, advice) in [
            ("correct horse\n", "ends with a line break"),
            ("correct horse\r\n", "ends with a line break"),
            ("correct\0horse", "a control character"),
            ("correct\nhorse", "a control character"),
            ("correct hörse", "outside ASCII"),
            (" \n", "empty"),
        ] {
            for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
                let secret = ClientSecret::new(secret);
                let credentials = ClientCredentials::new("app".into(), secret, authentication);
                let error = credentials.err().unwrap();
                assert_eq!(error.setting(), "app_secret");
                assert!(error.to_string().contains(advice), "{error}");
                assert!(!error.to_string().contains("correct"), "{error}");
            }
        }
    }

    #[test]
    fn client_secret_post_builds_no_header() {
        let secret = ClientSecret::new("correct horse");
        let credentials =
            ClientCredentials::new("app".into(), secret, ClientAuthentication::Post).unwrap();
        assert_eq!(credentials.header(), None);
        let parameters = [("client_id", "app"), ("client_secret", "correct horse")];
        assert_eq!(credentials.parameters(), Some(parameters));
    }

    #[test]
    fn debug_of_a_secret_is_redacted() {
        let secret = ClientSecret::new("correct horse");
        for text in [format!("{secret:?}"), format!("{secret:#?}"), format!("{:?}", [&secret])] {
            assert!(text.contains("redacted") && !text.contains("correct"), "{text}");
        }
    }
}
