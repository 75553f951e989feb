//! The token endpoint against the captures of a real one.

use super::*;

const ORG: &str = "psx3zwj0stjw";
const WEIRD: &str = "p+%/:& =é";

struct Logto {
    issuer: TestIssuer,
    client: Client,
}

impl Logto {
    /// The set-up that the captures were made with.
    async fn start() -> Self {
        let issuer = TestIssuer::builder()
            .app(
                TestApp::new("both", "secret")
                    .grant(SHOPPING, SCOPES)
                    .organization(ORG, ["invite:member", "manage:billing"])
                    .organization_grant(ORG, SHOPPING, SCOPES),
            )
            .app(TestApp::new("read", "secret").grant(SHOPPING, ["read:products"]))
            .app(TestApp::new("old", "secret").expired_secret())
            .app(TestApp::new("a b", WEIRD))
            .start()
            .await
            .unwrap();
        Self { issuer, client: client() }
    }

    fn post(&self, form: &[(&str, &str)]) -> RequestBuilder {
        let grant = [("grant_type", "client_credentials")];
        let given = form.iter().any(|(name, _)| *name == "grant_type");
        let form: Vec<_> = form.iter().chain(grant.iter().filter(|_| !given)).collect();
        self.client.post(self.issuer.token_endpoint()).form(&form)
    }

    /// By `client_secret_post`.
    async fn ask(&self, app: &str, form: &[(&str, &str)]) -> Value {
        let form = [&[("client_id", app), ("client_secret", "secret")][..], form].concat();
        let response = self.post(&form).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    async fn claims(&self, audience: &str, answer: &Value) -> Value {
        let trusted = TrustedIssuer::new(&self.issuer.issuer()).audience(audience);
        let validator = Validator::builder().trust(trusted.organizations()).build().unwrap();
        let token = answer["access_token"].as_str().unwrap();
        validator.validate(token).await.unwrap().claims().unwrap()
    }
}

/// Status, challenge and body of a captured answer.
fn answer(name: &str) -> (u16, Option<String>, String) {
    let (head, body) = captured(&format!("token-endpoint/{name}"));
    let status = head.lines().find_map(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
    let challenge = head.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
    (status[..3].parse().unwrap(), challenge.map(str::to_owned), body)
}

async fn assert_as_captured(name: &str, logto: &Logto, request: RequestBuilder) {
    let (status, challenge, body) = answer(name);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status, "{name}");
    let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
    let expected = if status == 500 { "text/plain" } else { "application/json" };
    assert_eq!(content_type, format!("{expected}; charset=utf-8"), "{name}");
    let sent = response.headers().get(header::WWW_AUTHENTICATE);
    let sent = sent.map(|value| value.to_str().unwrap().to_owned());
    let own = challenge
        .map(|text| text.replace("http://localhost:3001/oidc", logto.issuer.issuer().as_str()));
    assert_eq!(sent, own, "{name}");
    // Byte for byte, so the order of the members too.
    assert_eq!(response.text().await.unwrap(), body, "{name}");
}

#[tokio::test]
async fn errors_are_the_captured_ones() {
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
    let (status, _, body) = answer("custom-claims-deny");
    logto.issuer.fault_token(Fault::Status(status, body.clone()));
    let response = logto.post(&[id, app, resource]).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (status, body));
}

/// An answer without what differs each time.
fn shape(mut answer: Value) -> Value {
    answer["access_token"] = "…".into();
    answer
}

#[tokio::test]
async fn answers_have_the_captured_shape() {
    let logto = Logto::start().await;
    let both = ("scope", "read:products write:products");
    for (name, app, form) in [
        ("ok-c-both-basic", "both", vec![("resource", SHOPPING), both]),
        ("scope-not-granted", "read", vec![("resource", SHOPPING), both]),
        ("scope-only-ungranted", "read", vec![("resource", SHOPPING), ("scope", "write:products")]),
        ("ok-e-org-noscope", "both", vec![("organization_id", ORG)]),
    ] {
        let (status, _, body) = answer(name);
        assert_eq!(status, 200);
        let captured: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shape(logto.ask(app, &form).await), shape(captured), "{name}");
    }
}

#[tokio::test]
async fn every_combination_of_parameters_gives_its_kind_of_token() {
    let logto = Logto::start().await;
    let resource = ("resource", SHOPPING);
    let organization = ("organization_id", ORG);

    let answer = logto.ask("both", &[resource]).await;
    assert_eq!(answer.get("scope"), None);
    let claims = logto.claims(SHOPPING, &answer).await;
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("both"), &json!("both")));
    assert_eq!((claims.get("scope"), claims.get("organization_id")), (None, None));

    // The request's order, and each scope once.
    let scope = ("scope", "write:products nothing read:products write:products");
    let answer = logto.ask("both", &[resource, scope]).await;
    assert_eq!(answer["scope"], "write:products read:products");
    assert_eq!(logto.claims(SHOPPING, &answer).await["scope"], answer["scope"]);

    let answer = logto.ask("both", &[resource, organization, scope]).await;
    assert_eq!(answer["scope"], "write:products read:products");
    let claims = logto.claims(SHOPPING, &answer).await;
    assert_eq!((&claims["aud"], &claims["organization_id"]), (&json!(SHOPPING), &json!(ORG)));

    // Here the order of the roles.
    let scope = ("scope", "manage:billing invite:member read:products");
    let answer = logto.ask("both", &[organization, scope]).await;
    assert_eq!(answer["scope"], "invite:member manage:billing");
    let claims = logto.claims(SHOPPING, &answer).await;
    assert_eq!(claims["aud"], format!("urn:logto:organization:{ORG}"));
    assert_eq!(claims.get("organization_id"), None);

    // An app without a role for it may still have the Management API, without scopes.
    let management = ("resource", TestIssuer::MANAGEMENT_API);
    let answer = logto.ask("read", &[management, ("scope", "all")]).await;
    assert_eq!(answer.get("scope"), None);
}

/// Any application gets every organization permission; only the audience tells.
#[tokio::test]
async fn the_reserved_resource_is_a_trap_here_too() {
    let logto = Logto::start().await;
    let resource = ("resource", "urn:logto:resource:organizations");
    let scope = ("scope", "invite:member manage:billing");
    let answer = logto.ask("read", &[resource, scope]).await;
    assert_eq!(answer["scope"], "invite:member manage:billing");
    let validator = logto.issuer.validator(SHOPPING).unwrap();
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(validator.validate(token).await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn basic_credentials_are_form_encoded_first() {
    let logto = Logto::start().await;
    let ask = async |id: &str, secret: &str| {
        let request = logto.post(&[("resource", SHOPPING)]).basic_auth(id, Some(secret));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("a+b", "p%2B%25%2F%3A%26+%3D%C3%A9").await, 200);
    assert_eq!(ask("a%20b", "p%2B%25/:& =é").await, 200);
    assert_eq!(ask("a b", WEIRD).await, 400);
    assert_eq!(ask("a b", "p+").await, 401);
    assert_eq!(logto.issuer.token_requests(), 4);
    let bearer = logto.post(&[]).bearer_auth("x").send().await.unwrap();
    assert_eq!(bearer.status(), 400);
}

#[tokio::test]
async fn the_life_of_tokens_can_be_set() {
    let issuer = TestIssuer::builder()
        .token_ttl(Duration::from_secs(60))
        .app(TestApp::new("app", "secret").grant(SHOPPING, []))
        .start()
        .await
        .unwrap();
    let logto = Logto { issuer, client: client() };
    let answer = logto.ask("app", &[("resource", SHOPPING)]).await;
    assert_eq!(answer["expires_in"], 60);
    let claims = logto.claims(SHOPPING, &answer).await;
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
}
