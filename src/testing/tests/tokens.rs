//! Tests of tokens from the test issuer. The validator accepts valid tokens of every kind, and
//! refuses each invalid token for the expected reason.

use super::*;

/// Returns the header and the claims of a token as text, because the order of the members matters.
fn parts(token: &str) -> [String; 2] {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    [(); 2].map(|()| String::from_utf8(parts.next().unwrap()).unwrap())
}

#[tokio::test]
async fn every_kind_of_token_is_valid() {
    let (issuer, validator, _) = start().await;
    let validate = async |token: TokenBuilder| validator.validate(&token.build()).await.unwrap();

    let global = validate(issuer.token().scopes(SCOPES)).await;
    assert_eq!(global.kind(), TokenKind::Global);
    assert!(global.is_machine());
    assert!(global.require_scopes(SCOPES).is_ok());
    assert_eq!(global.organization_id(), None);

    let user = validate(issuer.token().subject("alice").client_id("shop")).await;
    assert_eq!((user.subject(), user.client_id()), ("alice", Some("shop")));
    assert!(!user.is_machine());

    let in_organization = validate(issuer.token().organization_resource("acme")).await;
    assert_eq!(in_organization.organization_id(), Some("acme"));

    let permissions = issuer.token().organization_permissions("acme").scopes(["invite:member"]);
    let permissions = validate(permissions).await;
    assert_eq!(permissions.organization_id(), Some("acme"));
    assert_eq!(permissions.audiences().collect::<Vec<_>>(), ["urn:logto:organization:acme"]);

    let management = issuer.validator(TestIssuer::MANAGEMENT_API).unwrap();
    let token = management.validate(&issuer.token().management_api().build()).await.unwrap();
    assert!(token.require_scopes(["all"]).is_ok());
}

#[tokio::test]
async fn every_algorithm_is_valid() {
    for algorithm in Algorithm::LOGTO {
        let key = SigningKey::generate(algorithm);
        let issuer = TestIssuer::builder().signing_key(key).start().await.unwrap();
        let validator = issuer.validator(SHOPPING).unwrap();
        validator.validate(&issuer.token().build()).await.unwrap();
    }
}

#[tokio::test]
async fn token_has_logtos_members_in_logtos_order() {
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

    let [_, claims] = parts(&issuer.token().organization_permissions("acme").build());
    assert!(claims.contains(r#","scope":"","client_id":"#), "{claims}");
    let token = issuer.token().organization_resource("acme").claim("tier", "gold").claim("nbf", 1);
    let [_, claims] = parts(&token.build());
    assert!(claims.starts_with(r#"{"nbf":1,"tier":"gold","organization_id":"acme","jti":"#));
    assert_eq!(issuer.opaque_token().len(), 43);
}

#[tokio::test]
async fn each_invalid_token_is_refused_for_the_expected_reason() {
    let (issuer, validator, _) = start().await;
    let token = || issuer.token();
    let other_key = SigningKey::generate(Algorithm::ES384);
    let es256 = SigningKey::generate(Algorithm::ES256);
    macro_rules! refused {
        ($token:expr, $reason:pat) => {
            let reason = refusal(&validator, $token).await;
            assert!(matches!(reason, $reason), "{}: {reason:?}", stringify!($token));
        };
    }
    refused!(token().bad_signature(), InvalidToken::BadSignature);
    refused!(token().signed_by(&other_key), InvalidToken::UnknownKey(Some(_)));
    refused!(token().signed_by(&other_key).kid(issuer.current_kid()), InvalidToken::BadSignature);
    refused!(
        token().signed_by(&es256).kid(issuer.current_kid()),
        InvalidToken::KeyAlgorithmMismatch(Algorithm::ES256)
    );
    refused!(token().unsigned_alg_none(), InvalidToken::Malformed(_));
    refused!(token().header("alg", "HS256"), InvalidToken::AlgorithmNotAllowed(_));
    refused!(
        token().without_header("alg"),
        InvalidToken::Malformed(_) | InvalidToken::AlgorithmNotAllowed(_)
    );
    refused!(token().header("crit", json!(["exp"])), InvalidToken::CriticalHeader);
    refused!(token().typ("JWT"), InvalidToken::WrongType(Some(_)));
    refused!(token().without_header("typ"), InvalidToken::WrongType(None));
    refused!(issuer.id_token(), InvalidToken::WrongType(Some(_)));
    refused!(token().expired(), InvalidToken::Expired { .. });
    refused!(token().lifetime(Duration::MAX).expired(), InvalidToken::Expired { .. });
    refused!(token().claim("nbf", 1_795_342_900), InvalidToken::NotYetValid { .. });
    refused!(token().audience("https://other.api"), InvalidToken::WrongAudience { .. });
    refused!(token().management_api(), InvalidToken::WrongAudience { .. });
    refused!(
        token().claim("iss", "https://evil.example/oidc"),
        InvalidToken::UntrustedIssuer { .. }
    );
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
async fn token_expires_with_the_manual_clock() {
    let (issuer, validator, clock) = start().await;
    let token = issuer.token().lifetime(Duration::from_secs(60)).build();
    clock.advance(Duration::from_secs(60 + 29));
    assert!(validator.validate(&token).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert!(validator.validate(&token).await.is_err());
}

#[tokio::test]
async fn issuer_may_differ_from_its_endpoint() {
    let name = crate::Issuer::logto("https://auth.example.com").unwrap();
    let issuer = TestIssuer::builder().issuer(&name).start().await.unwrap();
    let validator = issuer.validator(SHOPPING).unwrap();
    let token = validator.validate(&issuer.token().build()).await.unwrap();
    assert_eq!(token.issuer(), "https://auth.example.com/oidc");
}
