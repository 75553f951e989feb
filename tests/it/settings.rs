//! Tests of `Settings` from files and from environment variables.

use std::{collections::HashMap, ffi::OsString, fs, path::PathBuf};

use serde::Deserialize;
use tower_logto::{
    error::ConfigError,
    m2m::TokenRequest,
    settings::Settings,
    testing::{TestApp, TestIssuer},
};

use crate::support::SHOPPING_API;

const ENDPOINT: (&str, &str) = ("LOGTO_ENDPOINT", "https://tenant.logto.app");
const RESOURCE: (&str, &str) = ("LOGTO_RESOURCE", SHOPPING_API);

fn from_variables(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Settings::from_variables(|name| variables.get(name).map(OsString::from))
}

fn from_json(json: &str) -> Result<Settings, serde_json::Error> {
    serde_json::from_str(json)
}

/// Writes a file with this content to a folder for tests, and returns the path of the file.
fn file(name: &str, content: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("settings");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn validator_token_client_and_metadata_are_built_from_one_settings_value() {
    let app = TestApp::new("reader", "reader-secret").grant(SHOPPING_API, ["read:products"]);
    let logto = TestIssuer::builder().app(app).start().await.unwrap();
    let endpoint = logto.endpoint();
    let secret = file("secret", "reader-secret\r\n");
    let secret = secret.to_str().unwrap();
    let variables = from_variables(&[
        ("LOGTO_ENDPOINT", &endpoint),
        RESOURCE,
        ("LOGTO_APP_ID", "reader"),
        ("LOGTO_APP_SECRET_FILE", secret),
        ("LOGTO_REALM", "shop"),
        // Kubernetes sets these variables if a service has the name `logto`. `Settings` ignores
        // them.
        ("LOGTO_PORT", "tcp://10.0.0.1:3001"),
        ("LOGTO_SERVICE_HOST", "10.0.0.1"),
    ]);
    let json = format!(
        r#"{{ "endpoint": "{endpoint}", "resource": ["{SHOPPING_API}"], "realm": "shop",
              "client": {{ "app_id": "reader", "app_secret_file": "{secret}" }} }}"#
    );
    for settings in [variables.unwrap(), from_json(&json).unwrap()] {
        let tokens = settings.token_client().unwrap();
        let request = TokenRequest::resource(SHOPPING_API).scopes(["read:products"]);
        let token = tokens.token(&request).await.unwrap();
        let validator = settings.validator().unwrap();
        assert_eq!(validator.validate(token.secret()).await.unwrap().subject(), "reader");
        let refusal = validator.validate("opaque").await.unwrap_err();
        let challenge = refusal.challenge().unwrap();
        assert!(challenge.to_str().unwrap().starts_with("Bearer realm=\"shop\""), "{challenge:?}");
        let document = settings.metadata().unwrap().to_json();
        assert!(document.contains(SHOPPING_API) && document.contains(&endpoint), "{document}");
        assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
    }
}

#[test]
fn every_setting_is_passed_to_the_builder() {
    // Each value is invalid. If the value is passed to the builder, the builder rejects it with an
    // error that starts with the name of the setting.
    for (key, variable, value) in [
        ("clock_tolerance_secs", "LOGTO_CLOCK_TOLERANCE_SECS", "301"),
        ("keys_fresh_for_secs", "LOGTO_KEYS_FRESH_FOR_SECS", "0"),
        ("serve_stale_keys_for_secs", "LOGTO_SERVE_STALE_KEYS_FOR_SECS", "1"),
        ("unknown_key_cooldown_secs", "LOGTO_UNKNOWN_KEY_COOLDOWN_SECS", "0"),
        ("max_token_size", "LOGTO_MAX_TOKEN_SIZE", "511"),
        ("realm", "LOGTO_REALM", "a\"b"),
        ("resource_metadata", "LOGTO_RESOURCE_METADATA", "/relative"),
        ("jwks_uri", "LOGTO_JWKS_URI", "http://logto:3001/oidc/jwks"),
        ("resource", "LOGTO_RESOURCE", "urn:logto:organization:acme"),
        ("algorithms", "LOGTO_ALGORITHMS", " "),
    ] {
        let mut variables = vec![ENDPOINT, (variable, value)];
        if key != "resource" {
            variables.push(RESOURCE);
        }
        let error = from_variables(&variables).unwrap().validator().unwrap_err().to_string();
        assert!(error.starts_with(variable), "{error}");
        let value = match (key, value.parse::<u64>()) {
            ("algorithms", _) => "[]".into(),
            (_, Ok(number)) => number.to_string(),
            (_, Err(_)) => format!("{value:?}"),
        };
        let resource = if key == "resource" {
            String::new()
        } else {
            format!("\"resource\": \"{SHOPPING_API}\",")
        };
        let json = format!(
            "{{ \"endpoint\": \"https://tenant.logto.app\", {resource} \"{key}\": {value} }}"
        );
        let error = from_json(&json).unwrap().validator().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}

#[test]
fn error_contains_the_variable_and_the_fix() {
    let empty = file("empty", "\n");
    let empty = empty.to_str().unwrap();
    let missing = "/nonexistent/secret";
    for (variables, expected) in [
        (&[RESOURCE][..], "LOGTO_ENDPOINT: not set: expected the address of Logto"),
        (&[("LOGTO_ENDPOINT", "")], "LOGTO_ENDPOINT: not set"),
        (&[("LOGTO_ENDPOINT", "tenant.logto.app")], "LOGTO_ENDPOINT: not an absolute URL"),
        (&[("LOGTO_ENDPOINT", "http://logto:3001")], "set LOGTO_ALLOW_HTTP=1"),
        (
            &[ENDPOINT, ("LOGTO_ISSUER", "https://x/oidc")],
            "LOGTO_ISSUER: the endpoint and the issuer",
        ),
        (&[ENDPOINT], "LOGTO_RESOURCE: not set: expected the API's resource indicator"),
        (
            &[ENDPOINT, ("LOGTO_RESOURCE", "https://a https://b urn:logto:x")],
            "\"urn:logto:x\" is reserved",
        ),
        (
            &[("LOGTO_ORGANIZATIONS", "yes")],
            "LOGTO_ORGANIZATIONS: expected true or false, found \"yes\"",
        ),
        (
            &[("LOGTO_MAX_TOKEN_SIZE", "16 KiB")],
            "LOGTO_MAX_TOKEN_SIZE: expected a whole number, found \"16 KiB\"",
        ),
        (
            &[("LOGTO_ALGORITHMS", "ES384 HS256")],
            "LOGTO_ALGORITHMS: \"HS256\" is not an accepted algorithm",
        ),
        (
            &[("LOGTO_LOG_REFUSALS_AT", "loud")],
            "LOGTO_LOG_REFUSALS_AT: \"loud\" is not a log level",
        ),
        (
            &[("LOGTO_REALM", "shop"), ("LOGTO_REALM_FILE", "/etc/realm")],
            "LOGTO_REALM: LOGTO_REALM and LOGTO_REALM_FILE are both set: remove one of them",
        ),
        (
            &[("LOGTO_REALM_FILE", missing)],
            "LOGTO_REALM_FILE: the file \"/nonexistent/secret\" cannot",
        ),
        (&[("LOGTO_REALM_FILE", empty)], "is empty"),
        (
            &[("LOGTO_REALM_FILE", "/dev/zero")],
            "LOGTO_REALM_FILE: the file \"/dev/zero\" has more than",
        ),
    ] {
        let error = from_variables(variables).and_then(|settings| settings.validator());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, expected {expected}");
    }
    for (variables, expected) in [
        (&[ENDPOINT][..], "LOGTO_APP_ID: not set: expected the id"),
        (
            &[ENDPOINT, ("LOGTO_APP_ID", "a")],
            "LOGTO_APP_SECRET: not set: expected the application's secret",
        ),
        (&[ENDPOINT, ("LOGTO_APP_ID", "a"), ("LOGTO_APP_SECRET", "b\n")], "LOGTO_APP_SECRET:"),
        (
            &[
                ENDPOINT,
                ("LOGTO_APP_ID", "a"),
                ("LOGTO_APP_SECRET", "b"),
                ("LOGTO_TOKEN_ENDPOINT", "http://x"),
            ],
            "LOGTO_TOKEN_ENDPOINT: plain http",
        ),
    ] {
        let error = from_variables(variables).unwrap().token_client().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, expected {expected}");
    }
}

#[test]
fn unknown_fields_in_a_settings_file_are_errors() {
    #[derive(Deserialize, Debug)]
    struct Configuration {
        #[serde(rename = "logto")]
        _logto: Settings,
    }
    for (json, expected) in [
        (r#"{ "logto": { "endpont": "https://tenant.logto.app" } }"#, "unknown field `endpont`"),
        (
            r#"{ "logto": { "client": { "app_secret_path": "x" } } }"#,
            "unknown field `app_secret_path`",
        ),
        (r#"{ "logto": { "names": {} } }"#, "unknown field `names`"),
        (r#"{ "logto": { "algorithms": ["none"] } }"#, "\"none\" is not an accepted algorithm"),
        (r#"{ "logto": { "resource": 1 } }"#, "expected a string or a list of strings"),
        (r#"{ "logto": { "log_refusals_at": "loud" } }"#, "\"loud\" is not a log level"),
    ] {
        let error = serde_json::from_str::<Configuration>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn error_for_a_settings_file_contains_the_field() {
    for (json, expected) in [
        ("{}", "endpoint: not set"),
        (r#"{ "endpoint": "https://t.logto.app/oidc" }"#, "endpoint: "),
        (r#"{ "endpoint": "https://t.logto.app" }"#, "resource: not set"),
        (
            r#"{ "issuer": "http://logto/oidc", "resource": "https://shopping.api" }"#,
            "issuer: plain http",
        ),
    ] {
        let settings = from_json(json).unwrap();
        let error = settings.validator().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let both = r#"{ "endpoint": "https://t.logto.app",
                    "client": { "app_id": "a", "app_secret": "b", "app_secret_file": "c" } }"#;
    let error = from_json(both).unwrap().token_client().unwrap_err().to_string();
    assert!(error.starts_with("client.app_secret: app_secret and app_secret_file"), "{error}");
    let allowed = r#"{ "endpoint": "http://logto:3001", "allow_http": true, "organizations": true,
                       "resource": ["https://a", "https://b"] }"#;
    let allowed = from_json(allowed).unwrap();
    allowed.validator().unwrap();
    let error = allowed.metadata().unwrap_err().to_string();
    assert_eq!(error, "resource: a metadata document needs 1 resource, found 2");
}
