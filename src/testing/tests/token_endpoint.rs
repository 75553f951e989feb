//! The token endpoint, compared with captured responses of a real Logto server.

use super::*;

const ORGANIZATION: &str = "psx3zwj0stjw";
const SECRET_TO_ENCODE: &str = "p+%/:& =é";

struct Logto {
    issuer: TestIssuer,
    client: Client,
}

impl Logto {
    /// Starts an issuer with the applications that the captures were made with.
    async fn start() -> Self {
        let issuer = TestIssuer::builder()
            .app(
                TestApp::new("both", "secret")
                    .grant(SHOPPING, SCOPES)
                    .organization(ORGANIZATION, ["invite:member", "manage:billing"])
                    .organization_grant(ORGANIZATION, SHOPPING, SCOPES),
            )
            .app(TestApp::new("read", "secret").grant(SHOPPING, ["read:products"]))
            .app(TestApp::new("old", "secret").expired_secret())
            .app(TestApp::new("a b", SECRET_TO_ENCODE))
            .start()
            .await
            .unwrap();
        Self { issuer, client: client() }
    }

    fn post(&self, form: &[(&str, &str)]) -> RequestBuilder {
        let mut form = form.to_vec();
        if form.iter().all(|(name, _)| *name != "grant_type") {
            form.push(("grant_type", "client_credentials"));
        }
        self.client.post(self.issuer.token_endpoint()).form(&form)
    }

    /// Requests a token with `client_secret_post`.
    async fn request(&self, app: &str, form: &[(&str, &str)]) -> Value {
        let form = [&[("client_id", app), ("client_secret", "secret")][..], form].concat();
        let response = self.post(&form).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Validates the token in the response, and returns its claims.
    async fn claims(&self, audience: &str, response: &Value) -> Value {
        let trusted = TrustedIssuer::new(&self.issuer.issuer()).audience(audience);
        let validator = Validator::builder().trust(trusted.organizations()).build().unwrap();
        let token = response["access_token"].as_str().unwrap();
        validator.validate(token).await.unwrap().claims().unwrap()
    }
}

/// Returns the status, the challenge and the body of a captured response.
fn captured_response(name: &str) -> (u16, Option<String>, String) {
    let (head, body) = captured(&format!("token-endpoint/{name}"));
    let status = head.lines().find_map(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
    let challenge = head.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
    (status[..3].parse().unwrap(), challenge.map(str::to_owned), body)
}

async fn assert_as_captured(name: &str, logto: &Logto, request: RequestBuilder) {
    let (status, challenge, body) = captured_response(name);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status, "{name}");
    let media_type = if status == 500 { "text/plain" } else { "application/json" };
    let content_type = format!("{media_type}; charset=utf-8");
    assert_eq!(text(&response, &header::CONTENT_TYPE), Some(&*content_type), "{name}");
    let expected = challenge
        .map(|text| text.replace("http://localhost:3001/oidc", logto.issuer.issuer().as_str()));
    assert_eq!(text(&response, &header::WWW_AUTHENTICATE), expected.as_deref(), "{name}");
    // Compares byte for byte, because the order of the members matters too.
    assert_eq!(response.text().await.unwrap(), body, "{name}");
}

#[tokio::test]
async fn invalid_request_gets_the_captured_error() {
    let logto = Logto::start().await;
    let (id, app) = (("client_id", "both"), ("client_secret", "secret"));
    let resource = ("resource", SHOPPING);
    let unknown = [("client_id", "nonexistent"), app, resource];
    for (name, request) in [
        ("basic-and-post", logto.post(&[id, app, resource]).basic_auth("both", Some("secret"))),
        ("client-id-only", logto.post(&[id, resource])),
        ("grant-authcode", logto.post(&[id, app, ("grant_type", "authorization_code")])),
        ("no-auth", logto.post(&[resource])),
        ("org-not-member", logto.post(&[id, app, ("organization_id", "r8p57sfo1tou")])),
        ("resource-empty", logto.post(&[id, app, ("resource", "")])),
        ("resource-not-uri", logto.post(&[id, app, ("resource", "shopping")])),
        ("secret-expired", logto.post(&[("client_id", "old"), app, resource])),
        ("unknown-client", logto.post(&unknown)),
        ("unknown-resource", logto.post(&[id, app, ("resource", "https://nope.api")])),
        ("wrong-secret-basic", logto.post(&[resource]).basic_auth("both", Some("wrong"))),
        ("wrong-secret-post", logto.post(&[id, ("client_secret", "wrong"), resource])),
    ] {
        assert_as_captured(name, &logto, request).await;
    }
    logto.issuer.go_down();
    assert_as_captured("db-down-1", &logto, logto.post(&[id, app, resource])).await;
    let (status, _, body) = captured_response("custom-claims-deny");
    logto.issuer.fault_token(Fault::Status(status, body.clone()));
    let response = logto.post(&[id, app, resource]).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (status, body));
}

/// Replaces the token, which differs in every response.
fn shape(mut response: Value) -> Value {
    response["access_token"] = "…".into();
    response
}

#[tokio::test]
async fn token_response_has_the_captured_shape() {
    let logto = Logto::start().await;
    let both = ("scope", "read:products write:products");
    for (name, app, form) in [
        ("ok-c-both-basic", "both", vec![("resource", SHOPPING), both]),
        ("scope-not-granted", "read", vec![("resource", SHOPPING), both]),
        ("scope-only-ungranted", "read", vec![("resource", SHOPPING), ("scope", "write:products")]),
        ("ok-e-org-noscope", "both", vec![("organization_id", ORGANIZATION)]),
    ] {
        let (status, _, body) = captured_response(name);
        assert_eq!(status, 200);
        let captured: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shape(logto.request(app, &form).await), shape(captured), "{name}");
    }
}

#[tokio::test]
async fn each_combination_of_parameters_gets_its_kind_of_token() {
    let logto = Logto::start().await;
    let resource = ("resource", SHOPPING);
    let organization = ("organization_id", ORGANIZATION);

    let response = logto.request("both", &[resource]).await;
    assert_eq!(response.get("scope"), None);
    let claims = logto.claims(SHOPPING, &response).await;
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("both"), &json!("both")));
    assert_eq!((claims.get("scope"), claims.get("organization_id")), (None, None));

    // The response lists the scopes of a resource in the order of the request, without duplicates.
    let scope = ("scope", "write:products nothing read:products write:products");
    let response = logto.request("both", &[resource, scope]).await;
    assert_eq!(response["scope"], "write:products read:products");
    assert_eq!(logto.claims(SHOPPING, &response).await["scope"], response["scope"]);

    let response = logto.request("both", &[resource, organization, scope]).await;
    assert_eq!(response["scope"], "write:products read:products");
    let claims = logto.claims(SHOPPING, &response).await;
    assert_eq!(
        (&claims["aud"], &claims["organization_id"]),
        (&json!(SHOPPING), &json!(ORGANIZATION))
    );

    // The response lists the permissions of an organization in the order of the application's
    // roles.
    let scope = ("scope", "manage:billing invite:member read:products");
    let response = logto.request("both", &[organization, scope]).await;
    assert_eq!(response["scope"], "invite:member manage:billing");
    let claims = logto.claims(SHOPPING, &response).await;
    assert_eq!(claims["aud"], format!("urn:logto:organization:{ORGANIZATION}"));
    assert_eq!(claims.get("organization_id"), None);

    // An application without a role for the Management API gets a token without scopes.
    let management = ("resource", TestIssuer::MANAGEMENT_API);
    let response = logto.request("read", &[management, ("scope", "all")]).await;
    assert_eq!(response.get("scope"), None);
}

/// If an application requests organization permissions for the reserved resource, the test issuer
/// grants all of them, whatever the roles of the application are. Logto does the same. Only the
/// audience shows that the token is not for an organization.
#[tokio::test]
async fn token_for_the_reserved_resource_is_refused_because_of_its_audience() {
    let logto = Logto::start().await;
    let resource = ("resource", "urn:logto:resource:organizations");
    let scope = ("scope", "invite:member manage:billing");
    let response = logto.request("read", &[resource, scope]).await;
    assert_eq!(response["scope"], "invite:member manage:billing");
    let validator = logto.issuer.validator(SHOPPING).unwrap();
    let token = response["access_token"].as_str().unwrap();
    assert_eq!(validator.validate(token).await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn basic_credentials_must_be_form_encoded() {
    let logto = Logto::start().await;
    let status = async |id: &str, secret: &str| {
        let request = logto.post(&[("resource", SHOPPING)]).basic_auth(id, Some(secret));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("a+b", "p%2B%25%2F%3A%26+%3D%C3%A9").await, 200);
    assert_eq!(status("a%20b", "p%2B%25/:& =é").await, 200);
    assert_eq!(status("a b", SECRET_TO_ENCODE).await, 400);
    assert_eq!(status("a b", "p+").await, 401);
    assert_eq!(logto.issuer.token_requests(), 4);
    let bearer = logto.post(&[]).bearer_auth("x").send().await.unwrap();
    assert_eq!(bearer.status(), 400);
}

#[tokio::test]
async fn token_ttl_sets_expires_in_and_exp() {
    let issuer = TestIssuer::builder()
        .token_ttl(Duration::from_secs(60))
        .app(TestApp::new("app", "secret").grant(SHOPPING, []))
        .start()
        .await
        .unwrap();
    let logto = Logto { issuer, client: client() };
    let response = logto.request("app", &[("resource", SHOPPING)]).await;
    assert_eq!(response["expires_in"], 60);
    let claims = logto.claims(SHOPPING, &response).await;
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
}
