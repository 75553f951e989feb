//! Sends a reqwest request with a token. If the service refuses the token, the client sends the
//! request again with a new token.

use std::{error::Error, fmt};

use reqwest::{RequestBuilder, Response};

use crate::{
    http_client::describe_failure,
    m2m::{
        client::TokenClient, error::TokenRequestError, headers::is_token_refusal,
        token::IssuedToken, token_request::TokenRequest,
    },
};

impl TokenClient {
    /// Sends a reqwest request with an access token.
    ///
    /// If the service refuses the token with a 401, the client fetches a new token and sends the
    /// request once more. If a 401 has challenges and none of them is a Bearer challenge, the
    /// client does not treat the 401 as a refusal of the token.
    ///
    /// A request whose body is a stream cannot be repeated. The client sends such a request once.
    /// If the service refuses the token, the client starts to fetch a new token in the background,
    /// and uses it for later requests.
    ///
    /// ```no_run
    /// # use tower_logto::m2m::{SendError, TokenClient, TokenRequest};
    /// # async fn example(tokens: TokenClient, client: reqwest::Client) -> Result<(), SendError> {
    /// let request = TokenRequest::resource("https://shopping.api").scopes(["read:products"]);
    /// let get = client.get("https://shopping.example/products");
    /// let response = tokens.send(get, &request).await?;
    /// println!("{}", response.status());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`SendError::Token`] if no token is available, and [`SendError::Http`] if the
    /// request fails. A response with an error status is not an error.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request to the service, but not the token request.
    ///
    /// # Runtime
    /// Requires a tokio runtime with I/O and time enabled.
    pub async fn send(
        &self,
        builder: RequestBuilder,
        request: &TokenRequest,
    ) -> Result<Response, SendError> {
        let again = builder.try_clone();
        let token = self.token(request).await?;
        let response = token.attach_to(builder).send().await?;
        if !is_token_refusal(response.status(), response.headers()) {
            return Ok(response);
        }
        let Some(again) = again else {
            self.invalidate(&token);
            return Ok(response);
        };
        let successor = self.successor(&token).await?;
        if successor.is_same(&token) {
            return Ok(response);
        }
        Ok(successor.attach_to(again).send().await?)
    }
}

impl IssuedToken {
    /// Sets the `Authorization` header of a request, and replaces an existing `Authorization`
    /// header.
    pub(crate) fn attach_to(&self, builder: RequestBuilder) -> RequestBuilder {
        use http::{HeaderMap, header::AUTHORIZATION};
        // `RequestBuilder::header` would add a second header instead of replacing the existing one.
        builder.headers(HeaderMap::from_iter([(AUTHORIZATION, self.authorization())]))
    }
}

/// The reason why [`TokenClient::send`] failed.
///
/// ```
/// use tower_logto::m2m::SendError;
///
/// fn may_retry(error: &SendError) -> bool {
///     match error {
///         SendError::Token(error) => error.is_retryable(),
///         SendError::Http(error) => error.is_connect(),
///         _ => false,
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// No access token is available.
    Token(TokenRequestError),
    /// The request to the service failed.
    Http(reqwest::Error),
}

impl From<TokenRequestError> for SendError {
    fn from(error: TokenRequestError) -> Self {
        Self::Token(error)
    }
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::Http(error) => match error.url() {
                // Leaves out the query, because it may contain personal data.
                Some(url) => {
                    let host = url.host_str().unwrap_or_default();
                    let cause = describe_failure(url, error);
                    write!(f, "the request to {host}{} failed: {cause}", url.path())
                }
                None => write!(f, "the request failed: {error}"),
            },
        }
    }
}

/// There is no source, because the message contains the cause.
impl Error for SendError {}
