//! The kit against the validator, over real sockets, and against the captures of a real Logto.

use std::{fs, path::Path, time::Duration};

use reqwest::{Client, RequestBuilder, Response, header};
use serde_json::{Value, json};

use super::{Fault, ManualClock, SigningKey, TestApp, TestIssuer, TokenBuilder};
use crate::{Algorithm, AuthErrorKind, InvalidToken, TokenKind, TrustedIssuer, Validator};

const SHOPPING: &str = "https://shopping.api";
const SCOPES: [&str; 2] = ["read:products", "write:products"];

async fn start() -> (TestIssuer, Validator, ManualClock) {
    let clock = ManualClock::default();
    let issuer = TestIssuer::builder().clock(clock.clone()).start().await.unwrap();
    let trusted = issuer.trusted(SHOPPING).organizations();
    let validator = Validator::builder().issuer(trusted).clock(clock.clone()).build().unwrap();
    (issuer, validator, clock)
}

async fn refusal(validator: &Validator, token: TokenBuilder) -> InvalidToken {
    let error = validator.validate(&token.build()).await.unwrap_err();
    match error.kind() {
        AuthErrorKind::InvalidToken(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

async fn is_unavailable(validator: &Validator, token: &str) -> bool {
    let verdict = validator.validate(token).await;
    verdict.is_err_and(|error| matches!(error.kind(), AuthErrorKind::KeysUnavailable(_)))
}

mod tokens {
    use super::*;

    /// Header and claims of a token, as text: their order counts.
    fn parts(token: &str) -> [String; 2] {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        [(); 2].map(|()| String::from_utf8(parts.next().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn all_kinds_validate() {
        let (issuer, validator, _) = start().await;
        let validate =
            async |token: TokenBuilder| validator.validate(&token.build()).await.unwrap();

        let global = validate(issuer.token().scopes(SCOPES)).await;
        assert_eq!(global.kind(), TokenKind::Global);
        assert!(global.is_machine());
        assert!(global.require_scopes(SCOPES).is_ok());
        assert_eq!(global.organization_id(), None);

        let user = validate(issuer.token().subject("alice").client_id("shop")).await;
        assert_eq!((user.subject(), user.client_id()), ("alice", Some("shop")));
        assert!(!user.is_machine());

        let in_organization = validate(issuer.token().organization_id("acme")).await;
        assert_eq!(in_organization.organization_id(), Some("acme"));

        let permissions = issuer.token().for_organization("acme").scopes(["invite:member"]);
        let permissions = validate(permissions).await;
        assert_eq!(permissions.organization_id(), Some("acme"));
        assert_eq!(permissions.audience().collect::<Vec<_>>(), ["urn:logto:organization:acme"]);

        let management = issuer.validator(TestIssuer::MANAGEMENT_API).unwrap();
        let token = management.validate(&issuer.token().management_api().build()).await.unwrap();
        assert!(token.require_scopes(["all"]).is_ok());
    }

    #[tokio::test]
    async fn every_algorithm_validates() {
        for algorithm in Algorithm::LOGTO {
            let key = SigningKey::generate(algorithm);
            let issuer = TestIssuer::builder().signing_key(&key).start().await.unwrap();
            let validator = issuer.validator(SHOPPING).unwrap();
            validator.validate(&issuer.token().build()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_token_has_logtos_form() {
        let (issuer, ..) = start().await;
        let kid = issuer.current_kid();
        let [header, claims] = parts(&issuer.token().build());
        assert_eq!(header, format!(r#"{{"alg":"ES384","typ":"at+jwt","kid":"{kid}"}}"#));
        let jti = claims.get(r#"{"jti":""#.len()..).unwrap().split('"').next().unwrap();
        assert_eq!(jti.len(), 21);
        let expected = format!(
            r#"{{"jti":"{jti}","sub":"test-application","iat":1795342800,"exp":1795346400,"client_id":"test-application","iss":"{}","aud":"https://shopping.api"}}"#,
            issuer.issuer()
        );
        assert_eq!(claims, expected);

        let [_, claims] = parts(&issuer.token().for_organization("acme").build());
        assert!(claims.contains(r#","scope":"","client_id":"#), "{claims}");
        let token = issuer.token().organization_id("acme").claim("tier", "gold").claim("nbf", 1);
        let [_, claims] = parts(&token.build());
        assert!(claims.starts_with(r#"{"nbf":1,"tier":"gold","organization_id":"acme","jti":"#));
        assert_eq!(issuer.opaque_token().len(), 43);
    }

    #[tokio::test]
    async fn each_wrong_token_is_refused_for_its_reason() {
        let (issuer, validator, _) = start().await;
        let token = || issuer.token();
        let stranger = SigningKey::generate(Algorithm::ES384);
        let es256 = SigningKey::generate(Algorithm::ES256);
        macro_rules! refused {
            ($token:expr, $reason:pat) => {
                let reason = refusal(&validator, $token).await;
                assert!(matches!(reason, $reason), "{}: {reason:?}", stringify!($token));
            };
        }
        refused!(token().bad_signature(), InvalidToken::Signature);
        refused!(token().signed_by(&stranger), InvalidToken::UnknownKey(Some(_)));
        refused!(token().signed_by(&stranger).kid(issuer.current_kid()), InvalidToken::Signature);
        refused!(
            token().signed_by(&es256).kid(issuer.current_kid()),
            InvalidToken::KeyAlgorithm(Algorithm::ES256)
        );
        refused!(token().unsigned_alg_none(), InvalidToken::Malformed(_));
        refused!(token().header("alg", "HS256"), InvalidToken::Algorithm(_));
        refused!(
            token().without_header("alg"),
            InvalidToken::Malformed(_) | InvalidToken::Algorithm(_)
        );
        refused!(token().header("crit", json!(["exp"])), InvalidToken::Critical);
        refused!(token().typ("JWT"), InvalidToken::Type(Some(_)));
        refused!(token().without_header("typ"), InvalidToken::Type(None));
        refused!(issuer.id_token(), InvalidToken::Type(Some(_)));
        refused!(token().expired(), InvalidToken::Expired { .. });
        refused!(token().claim("nbf", 1_795_342_900), InvalidToken::NotYetValid { .. });
        refused!(token().audience("https://other.api"), InvalidToken::Audience { .. });
        refused!(token().management_api(), InvalidToken::Audience { .. });
        refused!(token().claim("iss", "https://evil.example/oidc"), InvalidToken::Issuer { .. });
        for claim in ["iss", "sub", "exp", "aud"] {
            refused!(token().without_claim(claim), InvalidToken::MissingClaim(_));
        }
        refused!(token().raw_payload("[]"), InvalidToken::Malformed(_));
        refused!(token().raw_header("{"), InvalidToken::Malformed(_));
        let opaque = validator.validate(&issuer.opaque_token()).await.unwrap_err();
        let not_a_jwt = AuthErrorKind::InvalidToken(InvalidToken::NotAJwt);
        assert_eq!(format!("{:?}", opaque.kind()), format!("{not_a_jwt:?}"));
    }

    #[tokio::test]
    async fn a_token_expires_with_the_manual_clock() {
        let (issuer, validator, clock) = start().await;
        let token = issuer.token().lifetime(Duration::from_secs(60)).build();
        clock.advance(Duration::from_secs(60 + 29));
        assert!(validator.validate(&token).await.is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(validator.validate(&token).await.is_err());
    }

    #[tokio::test]
    async fn an_issuer_may_have_another_name_than_its_address() {
        let name = crate::Issuer::logto("https://auth.example.com").unwrap();
        let issuer = TestIssuer::builder().issuer(&name).start().await.unwrap();
        let validator = issuer.validator(SHOPPING).unwrap();
        let token = validator.validate(&issuer.token().build()).await.unwrap();
        assert_eq!(token.issuer(), "https://auth.example.com/oidc");
    }
}

mod token_endpoint {
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
            Self { issuer, client: Client::builder().no_proxy().build().unwrap() }
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
            let validator = Validator::builder().issuer(trusted.organizations()).build().unwrap();
            let token = answer["access_token"].as_str().unwrap();
            validator.validate(token).await.unwrap().claims().unwrap()
        }
    }

    /// Status, challenge and body of a captured answer.
    fn captured(name: &str) -> (u16, Option<String>, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/logto-captures/token-endpoint")
            .join(name)
            .with_extension("http");
        let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap();
        let status = head.lines().find_map(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
        let challenge = head.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
        (status[..3].parse().unwrap(), challenge.map(str::to_owned), body.trim().into())
    }

    async fn assert_as_captured(name: &str, logto: &Logto, request: RequestBuilder) {
        let (status, challenge, body) = captured(name);
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
        let (status, _, body) = captured("custom-claims-deny");
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
            (
                "scope-only-ungranted",
                "read",
                vec![("resource", SHOPPING), ("scope", "write:products")],
            ),
            ("ok-e-org-noscope", "both", vec![("organization_id", ORG)]),
        ] {
            let (status, _, body) = captured(name);
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
        let logto = Logto { issuer, client: Client::builder().no_proxy().build().unwrap() };
        let answer = logto.ask("app", &[("resource", SHOPPING)]).await;
        assert_eq!(answer["expires_in"], 60);
        let claims = logto.claims(SHOPPING, &answer).await;
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    }
}

mod key_set {
    use super::*;

    async fn get(issuer: &TestIssuer, etag: Option<&str>) -> Response {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.get(issuer.jwks_uri());
        let request = match etag {
            Some(etag) => request.header(header::IF_NONE_MATCH, etag),
            None => request,
        };
        request.send().await.unwrap()
    }

    #[tokio::test]
    async fn it_is_answered_as_logto_does() {
        let (issuer, ..) = start().await;
        let response = get(&issuer, None).await;
        let headers = response.headers().clone();
        assert_eq!(headers[header::CONTENT_TYPE], "application/jwk-set+json; charset=utf-8");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache, max-age=0, must-revalidate");
        assert_eq!(response.text().await.unwrap(), issuer.jwks());

        let etag = headers[header::ETAG].to_str().unwrap();
        for same in [etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
            let response = get(&issuer, Some(same)).await;
            assert_eq!(response.status(), 304, "{same}");
            assert_eq!(response.headers()[header::ETAG], etag);
        }
        assert_eq!((issuer.jwks_requests(), issuer.not_modified()), (5, 4));
        issuer.rotate();
        assert_eq!(get(&issuer, Some(etag)).await.status(), 200);
    }

    /// The captured bodies, published here, get the captured `ETag`.
    #[tokio::test]
    async fn the_etag_is_logtos() {
        let (issuer, ..) = start().await;
        for name in ["jwks-gzip", "jwks-two-keys"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/fixtures/logto-captures/jwks/{name}.http"));
            let text = fs::read_to_string(path).unwrap().replace("\r\n", "\n");
            let (head, body) = text.split_once("\n\n").unwrap();
            issuer.publish(body.trim());
            let response = get(&issuer, None).await;
            let etag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
            assert!(head.contains(&format!("ETag: {etag}\n")), "{name}: {etag}");
        }
        issuer.recover();
        assert!(issuer.jwks().contains(&issuer.current_kid()));
    }

    #[tokio::test]
    async fn discovery_follows_the_host_and_the_issuer_does_not() {
        let (issuer, ..) = start().await;
        let client = Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/.well-known/openid-configuration", issuer.issuer());
        let request = client.get(url).header(header::HOST, "logto:3001");
        let metadata: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(metadata["issuer"], issuer.issuer().as_str());
        assert_eq!(metadata["jwks_uri"], "http://logto:3001/oidc/jwks");
        assert_eq!(metadata["token_endpoint"], "http://logto:3001/oidc/token");
    }

    fn published(issuer: &TestIssuer) -> Vec<String> {
        let set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn at_most_next_current_and_previous_are_published() {
        let issuer = TestIssuer::builder()
            .signing_key(&SigningKey::generate(Algorithm::ES256))
            .start()
            .await
            .unwrap();
        let first = issuer.current_kid();
        issuer.rotate();
        let second = issuer.current_kid();
        assert_eq!(issuer.signing_key().algorithm(), Algorithm::ES256);
        assert_eq!(published(&issuer), [second.clone(), first.clone()]);
        issuer.stage(Algorithm::ES384);
        let staged = published(&issuer);
        assert_eq!((staged.len(), &staged[0], &staged[2]), (3, &second, &first));
        assert_eq!(issuer.current_kid(), second);
        issuer.promote();
        assert_eq!(issuer.current_kid(), staged[1]);
        assert_eq!(published(&issuer), [staged[1].clone(), second]);
        issuer.delete_previous();
        assert_eq!(published(&issuer), [staged[1].clone()]);
    }

    #[tokio::test]
    async fn a_validator_follows_a_rotation() {
        let (issuer, validator, clock) = start().await;
        let old = issuer.token().build();
        validator.validate(&old).await.unwrap();
        issuer.rotate_to(Algorithm::PS256);
        validator.validate(&issuer.token().build()).await.unwrap();
        validator.validate(&old).await.unwrap();
        assert_eq!(issuer.jwks_requests(), 2);
        issuer.delete_previous();
        issuer.rotate();
        issuer.delete_previous();
        clock.advance(Duration::from_secs(60));
        let error = validator.validate(&old).await;
        assert!(error.is_ok(), "the validator has not looked yet");
        validator.validate(&issuer.token().build()).await.unwrap();
        assert_eq!(validator.validate(&old).await.unwrap_err().status(), 401);
    }
}

mod faults {
    use std::{io::ErrorKind, net::TcpStream};

    use super::*;

    fn is_refused(endpoint: &str) -> bool {
        let address = endpoint.strip_prefix("http://").unwrap();
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    #[tokio::test]
    async fn an_outage_ends() {
        let (issuer, validator, clock) = start().await;
        let token = issuer.token().build();
        let mut tried = 0;
        type Trouble = fn(&TestIssuer);
        for trouble in [
            TestIssuer::go_down as Trouble,
            TestIssuer::stop,
            |issuer| issuer.publish("{}"),
            |issuer| issuer.fault_jwks(Fault::Status(404, String::new())),
            |issuer| {
                let redirect = http::Response::builder()
                    .status(302)
                    .header(header::LOCATION, issuer.jwks_uri())
                    .body(String::new());
                issuer.fault_jwks(Fault::Response(redirect.unwrap()));
            },
        ] {
            trouble(&issuer);
            assert!(is_unavailable(&validator, &token).await, "{tried}");
            clock.advance(Duration::from_secs(60));
            tried += 1;
        }
        issuer.start_again();
        issuer.recover();
        assert!(validator.validate(&token).await.is_ok());
    }

    #[tokio::test]
    async fn a_stopped_server_refuses_connections_and_comes_back_on_its_port() {
        let (issuer, ..) = start().await;
        let client = Client::builder().no_proxy().build().unwrap();
        for _ in 0..3 {
            client.get(issuer.jwks_uri()).send().await.unwrap().bytes().await.unwrap();
            issuer.stop();
            issuer.stop();
            // The client's kept connection is closed with the rest.
            assert!(client.get(issuer.jwks_uri()).send().await.is_err());
            assert!(is_refused(&issuer.endpoint()));
            issuer.start_again();
            issuer.start_again();
        }
        assert_eq!(issuer.jwks_requests(), 3);
    }

    #[tokio::test]
    async fn a_hung_request_is_answered_on_recovery() {
        let (issuer, validator, _) = start().await;
        let token = issuer.token().build();
        issuer.hang();
        let waiting = tokio::spawn(async move { validator.validate(&token).await });
        issuer.jwks_requested(1).await;
        assert!(!waiting.is_finished());
        issuer.recover();
        assert!(waiting.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_hung_connection_is_cut_by_stop() {
        let (issuer, validator, _) = start().await;
        let token = issuer.token().build();
        issuer.fault_jwks(Fault::Hang);
        let waiting = tokio::spawn(async move { is_unavailable(&validator, &token).await });
        issuer.jwks_requested(1).await;
        issuer.stop();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn slow_is_slow_and_right() {
        let (issuer, validator, _) = start().await;
        issuer.slow(Duration::from_millis(1));
        assert!(validator.validate(&issuer.token().build()).await.is_ok());
    }

    #[tokio::test]
    async fn the_last_handle_closes_the_port() {
        let (issuer, ..) = start().await;
        let (endpoint, uri, other) = (issuer.endpoint(), issuer.jwks_uri(), issuer.clone());
        let client = Client::builder().no_proxy().build().unwrap();
        drop(issuer);
        assert_eq!(client.get(&uri).send().await.unwrap().status(), 200);
        drop(other);
        assert!(is_refused(&endpoint));
    }

    #[tokio::test]
    async fn a_port_can_be_chosen_once() {
        let (issuer, ..) = start().await;
        let port = issuer.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        assert!(TestIssuer::builder().port(port).start().await.is_err());
    }

    #[test]
    fn it_outlives_the_runtime_that_started_it() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().start_paused(true).build().unwrap()
        };
        let issuer = runtime().block_on(TestIssuer::start());
        let validator = issuer.validator(SHOPPING).unwrap();
        let token = issuer.token().build();
        assert!(
            tokio::runtime::Runtime::new().unwrap().block_on(validator.validate(&token)).is_ok()
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let app = TestApp::new("reporting", "very secret").grant(SHOPPING, SCOPES);
        let shown = format!("{:?}", TestIssuer::builder().app(app));
        assert!(shown.contains("reporting") && !shown.contains("very secret"), "{shown}");
    }
}
