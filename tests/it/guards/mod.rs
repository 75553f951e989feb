//! Tests of `Require`, the guard of a route. The tests check which tokens the guard accepts, how it
//! refuses other tokens, and which token the handler gets.

mod conditions;
mod mistakes;
mod organization;
mod routes;
mod several;
mod traps;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use tower::{Layer as _, Service as _, service_fn};
use tower_logto::{
    AccessToken, AuthError, Issuer, Require, Validator, error::AuthErrorKind, testing::TestIssuer,
};

use crate::support::{Harness, SHOPPING_API};

const REPORTS: &str = "https://reports.api";

/// Validated tokens of every kind, by name. `partner` is the second issuer that the validator
/// trusts.
struct Tokens {
    partner: TestIssuer,
    by_name: BTreeMap<&'static str, AccessToken>,
}

impl Tokens {
    async fn issue() -> Self {
        let harness = Harness::start().await;
        let partner = TestIssuer::builder().clock(harness.clock.clone()).start().await.unwrap();
        let validator =
            harness.builder().trust(partner.trusted(REPORTS)).trust_all_alike().build().unwrap();
        let user =
            || harness.logto.token().audience(SHOPPING_API).subject("alice").client_id("web");
        let permissions = |id| user().organization_permissions(id);
        let mut by_name = BTreeMap::new();
        for (name, token) in [
            ("global", user().scopes(["a", "b"])),
            ("machine", user().subject("billing").client_id("billing").scopes(["a"])),
            ("no client", user().without_claim("client_id").scopes(["a"])),
            ("resource", user().organization_resource("acme").scopes(["a", "c"])),
            ("permissions", permissions("acme").scopes(["a"])),
            ("foreign resource", user().organization_resource("evil").scopes(["a"])),
            ("foreign permissions", permissions("evil").scopes(["a"])),
            ("partner", partner.token().audience(REPORTS).subject("bob").scopes(["a"])),
        ] {
            by_name.insert(name, validate(&validator, &token.build()).await);
        }
        Self { partner, by_name }
    }

    fn get(&self, name: &str) -> &AccessToken {
        &self.by_name[name]
    }

    fn partner(&self) -> Issuer {
        self.partner.issuer()
    }
}

async fn validate(validator: &Validator, token: &str) -> AccessToken {
    validator.validate(token).await.unwrap()
}

/// Returns a request for the organization `acme`. The token is an extension of the request, as if
/// an outer `AuthLayer` had inserted it.
fn request(token: &AccessToken) -> Request<()> {
    let mut request = Request::builder()
        .uri("https://acme.shop.example/")
        .header("x-organization", "acme")
        .body(())
        .unwrap();
    request.extensions_mut().insert(token.clone());
    request
}

fn by_header() -> Require {
    Require::organization_in_header(http::HeaderName::from_static("x-organization"))
}

/// Sends a request through the guard, and returns the token that the handler gets.
fn pass(guard: &Require, request: Request<()>) -> Result<AccessToken, AuthError> {
    let handler = service_fn(async |request: Request<()>| {
        let token = request.extensions().get::<AccessToken>().cloned();
        Ok::<_, Infallible>(Response::new(token))
    });
    let mut service = guard.layer(handler);
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("a guard must not wait")
    };
    match response.extensions().get::<AuthError>() {
        Some(error) => Err(error.clone()),
        None => Ok(response.into_body().unwrap()),
    }
}

/// Returns the reason why the guard refuses the token, or `None` if the guard accepts the token.
fn refusal(guard: &Require, token: &AccessToken) -> Option<AuthErrorKind> {
    pass(guard, request(token)).err().map(|error| error.kind().clone())
}
