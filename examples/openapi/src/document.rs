//! Guards operations, and lists their required scopes in the OpenAPI document. You can copy this
//! file to your service.

use std::collections::BTreeSet;

use tower_logto::{AuthLayer, Issuer, Require, Scope, Validator};
use utoipa::openapi::{
    HeaderBuilder, ResponseBuilder,
    path::{Operation, PathItem},
    security::{
        AuthorizationCode, ClientCredentials, Flow, OAuth2, Scopes, SecurityRequirement,
        SecurityScheme,
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The operations that require scopes.
pub(crate) struct Protected {
    router: OpenApiRouter,
    scopes: BTreeSet<&'static str>,
}

impl Protected {
    pub(crate) fn new() -> Self {
        Self { router: OpenApiRouter::new(), scopes: BTreeSet::new() }
    }

    /// Adds operations. The guard and the document get the scopes from the type `S`.
    pub(crate) fn routes<S: Scope>(
        mut self,
        guard: Require,
        (schemas, mut paths, router): UtoipaMethodRouter,
    ) -> Self {
        for operation in paths.paths.values_mut().flat_map(operations) {
            let requirement = SecurityRequirement::new(SCHEME, S::SCOPES.iter().copied());
            operation.security = Some(vec![requirement]);
            for (status, description) in [
                ("401", "The access token is missing or not valid."),
                ("403", "The access token lacks a scope, or is for another organization."),
            ] {
                let challenge = HeaderBuilder::new()
                    .description(Some("The challenge (RFC 6750 section 3)"))
                    .build();
                let response = ResponseBuilder::new()
                    .description(description)
                    .header("WWW-Authenticate", challenge)
                    .build();
                operation.responses.responses.insert(status.into(), response.into());
            }
        }
        self.scopes.extend(S::SCOPES);
        let router = router.route_layer(guard.scope::<S>());
        Self { router: self.router.routes((schemas, paths, router)), ..self }
    }

    /// Requires a token for all operations, and describes in the document how to get a token.
    pub(crate) fn authenticated(self, validator: Validator, issuer: &Issuer) -> OpenApiRouter {
        let scopes = || self.scopes.iter().map(|scope| (*scope, "")).collect::<Scopes>();
        // The type is `oauth2`, because the type `openIdConnect` makes tools send ID tokens, which
        // no API accepts. Logto issues a JWT for the API only if the token request has the
        // parameter `resource`.
        let scheme = SecurityScheme::OAuth2(OAuth2::with_description(
            [
                Flow::AuthorizationCode(AuthorizationCode::new(
                    format!("{issuer}/auth"),
                    format!("{issuer}/token"),
                    scopes(),
                )),
                Flow::ClientCredentials(ClientCredentials::new(
                    format!("{issuer}/token"),
                    scopes(),
                )),
            ],
            "An access token of Logto. The token request needs the parameter `resource`.",
        ));
        let mut router = self.router.route_layer(AuthLayer::new(validator));
        let components = router.get_openapi_mut().components.get_or_insert_default();
        components.add_security_scheme(SCHEME, scheme);
        router
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, .. } = item;
    [get, put, post, delete, options, head, patch].into_iter().flatten()
}

const SCHEME: &str = "logto";
