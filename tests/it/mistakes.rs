//! Tests of the error messages for common mistakes of new users. The expected messages are in
//! `tests/fixtures/snapshots/mistakes.txt`.

use std::fmt::Write as _;

use axum::{Router, routing::get};
use tower_logto::{
    AccessToken, AuthLayer, Issuer, Require, TrustedIssuer, Validator,
    m2m::{ClientSecret, TokenClient, TokenRequest},
    settings::Settings,
    testing::{ManualClock, TestApp, TestIssuer, TokenBuilder},
};

use crate::support::{HOUR, LogCapture, SHOPPING_API, Server, snapshot};

/// The mistakes, each with its error message.
#[derive(Default)]
struct Report(String);

impl Report {
    fn add(&mut self, mistake: &str, text: impl std::fmt::Display) {
        writeln!(self.0, "{mistake}\n    {}", text.to_string().trim()).unwrap();
    }

    fn add_error<T>(&mut self, mistake: &str, result: Result<T, impl std::fmt::Display>) {
        let error = result.err().unwrap_or_else(|| panic!("{mistake}: no error"));
        self.add(mistake, error);
    }
}

/// Sends a request with a token. Returns the error that is logged for the refusal.
async fn log_of(app: Router, token: &str) -> String {
    let log = LogCapture::start();
    let server = Server::start(app).await;
    server.get("/orgs/acme", token).await;
    let text = log.text();
    let error = text.lines().find_map(|line| line.split_once("error=")).expect("a refusal").1;
    let error = error.split(" method=").next().unwrap_or_default();
    error.split(" not_logged=").next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn message_for_a_mistake_says_what_is_wrong_and_how_to_fix_it() {
    let mut report = Report::default();
    settings(&mut report);
    tokens(&mut report).await;
    programs(&mut report).await;
    clients(&mut report).await;
    let mistakes = report.0.lines().filter(|line| !line.starts_with(' ')).count();
    assert!(mistakes >= 20, "{mistakes}");
    snapshot::assert("mistakes.txt", &report.0);
}

fn settings(report: &mut Report) {
    for (mistake, endpoint) in [
        ("The endpoint has no https://", "tenant.logto.app"),
        ("The endpoint is plain http", "http://tenant.logto.app"),
        ("The endpoint is the issuer", "https://tenant.logto.app/oidc"),
        (
            "The endpoint is the discovery document",
            "https://tenant.logto.app/oidc/.well-known/openid-configuration",
        ),
    ] {
        report.add_error(mistake, Issuer::logto(endpoint));
    }
    let issuer = Issuer::logto("https://tenant.logto.app").unwrap();
    let nothing = Validator::builder().trust(TrustedIssuer::new(&issuer)).build();
    report.add_error("No audience is set", nothing);
    report.add_error("The audience is empty", Validator::new(&issuer, ""));
    let variables = |set: &'static [(&str, &str)]| {
        Settings::from_variables(move |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
    };
    let both = [
        ("LOGTO_ENDPOINT", "https://tenant.logto.app"),
        ("LOGTO_ISSUER", "https://tenant.logto.app/oidc"),
    ];
    let both: &'static [_] = Box::leak(Box::new(both));
    let both = variables(both).unwrap().validator();
    report.add_error("LOGTO_ENDPOINT and LOGTO_ISSUER are both set", both);
    report.add_error("No variable is set", variables(&[]).unwrap().validator());
}

async fn tokens(report: &mut Report) {
    let name = Issuer::logto("https://tenant.logto.app").unwrap();
    let clock = ManualClock::default();
    let issuer = TestIssuer::builder().issuer(&name).clock(clock.clone()).start().await.unwrap();
    let builder = Validator::builder().trust(issuer.trusted(SHOPPING_API)).clock(clock);
    let validator = builder.build().unwrap();
    let other = Issuer::logto("https://other.logto.app").unwrap();
    let other = TestIssuer::builder().issuer(&other).start().await.unwrap();
    let token = || issuer.token().audience(SHOPPING_API);
    for (mistake, token) in [
        ("The client asked for no resource", issuer.opaque_token()),
        ("The client sends the ID token", issuer.id_token().build()),
        ("The resource has a slash at its end", token().audience("https://shopping.api/").build()),
        ("The token is for another API", token().audience("https://other.api").build()),
        ("The token is of another tenant", other.token().audience(SHOPPING_API).build()),
        ("The token expired", token().claim("exp", 1_795_342_800 - 3_600).build()),
        ("The client sends the scheme twice", format!("Bearer {}", token().build())),
    ] {
        report.add_error(mistake, validator.validate(&token).await);
    }
    let app = |guard: Require| {
        Router::new()
            .route("/orgs/{org_id}", get(async || ""))
            .route_layer(guard)
            .route_layer(AuthLayer::new(validator.clone()))
    };
    let in_path = || Require::organization_in_path("org_id");
    let acme = |token: TokenBuilder| token.organization_resource("acme");
    for (mistake, guard, token) in [
        ("No role grants the scope", Require::global().scopes(["read:products"]), token()),
        ("An organization's token on a global route", Require::global(), acme(token())),
        ("A global token on an organization's route", in_path(), token()),
        (
            "The token is for another organization",
            in_path(),
            token().organization_resource("other"),
        ),
        (
            "The guard names a path parameter that the route does not have",
            Require::organization_in_path("organization"),
            acme(token()),
        ),
    ] {
        report.add(mistake, log_of(app(guard), &token.lifetime(HOUR).build()).await);
    }
}

async fn programs(report: &mut Report) {
    let issuer = TestIssuer::start().await.unwrap();
    let validator = issuer.validator(SHOPPING_API).unwrap();
    let token = issuer.token().audience(SHOPPING_API).scopes(["read:products"]).build();
    let without_layer = Router::new()
        .route("/orgs/{id}", get(async || ""))
        .route_layer(Require::global().scopes(["read:products"]));
    report.add("The route has a guard, but no AuthLayer", log_of(without_layer, &token).await);
    let two_in_one = async |token: AccessToken| {
        token.require_scopes(["read:products write:products"]).map(|()| "")
    };
    let app =
        Router::new().route("/orgs/{id}", get(two_in_one)).route_layer(AuthLayer::new(validator));
    let text = log_of(app, &token).await;
    let (_, text) = text.split_once(": ").unwrap();
    report.add("Two scopes are in one string", text);
}

async fn clients(report: &mut Report) {
    let app = TestApp::new("app", "secret").grant(SHOPPING_API, ["read:products"]);
    let issuer = TestIssuer::builder().app(app).start().await.unwrap();
    let client = |id: &str, secret: &str| {
        TokenClient::new(&issuer.issuer(), id, ClientSecret::new(secret)).unwrap()
    };
    let shopping = TokenRequest::resource(SHOPPING_API);
    for (mistake, id, secret, request) in [
        ("The app secret is wrong", "app", "wrong", shopping.clone()),
        ("The app id is wrong", "other", "secret", shopping.clone()),
        ("No role grants the scope", "app", "secret", shopping.scopes(["write:products"])),
        ("The API resource does not exist", "app", "secret", TokenRequest::resource("https://x")),
    ] {
        let result = client(id, secret).token(&request).await;
        let error = result.err().map(|error| error.to_string()).expect(mistake);
        let error = error.replace(&issuer.endpoint(), "http://127.0.0.1:PORT");
        report.add(&format!("Client: {mistake}"), error);
    }
    let newline = ClientSecret::new("secret\n");
    let result = TokenClient::new(&issuer.issuer(), "app", newline);
    report.add_error("Client: The secret has a line ending", result);
}
