//! The option `--demo`: calls every operation of the document without a token, with the wrong
//! scopes, and with the scopes that the document names.

use std::{collections::BTreeSet, error::Error, net::Ipv4Addr};

use reqwest::{Client, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tower_logto::testing::TestIssuer;

use crate::{RESOURCE, api, test_settings};

/// An operation in the OpenAPI document.
struct Operation {
    method: Method,
    path: String,
    /// The required scopes, or `None` if the operation needs no token.
    scopes: Option<Vec<String>>,
}

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let issuer = TestIssuer::start().await?;
    let app = api::router(&test_settings(&issuer))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let http = Client::builder().no_proxy().build()?;

    let document = http.get(format!("{url}/openapi.json")).send().await?.text().await?;
    let document: Value = serde_json::from_str(&document)?;
    let operations = operations(&document)?;
    let all: BTreeSet<&String> = operations.iter().flat_map(|one| &one.scopes).flatten().collect();
    println!("The document has {} operations and the scopes {all:?}.", operations.len());
    for Operation { method, path, scopes } in &operations {
        let call = async |scopes: Option<Vec<&str>>| {
            let mut request = http.request(method.clone(), format!("{url}{path}"));
            if let Some(scopes) = scopes {
                let mut token = issuer.token().audience(RESOURCE).scopes(scopes);
                if path.starts_with("/organizations/") {
                    token = token.organization_resource("acme");
                }
                request = request.bearer_auth(token.build());
            }
            Ok::<u16, reqwest::Error>(request.send().await?.status().as_u16())
        };
        let Some(required) = scopes else {
            let status = call(None).await?;
            println!("{method} {path}: open, {status}");
            check(status == 200, "expected an open operation")?;
            continue;
        };
        let missing = call(None).await?;
        let others = all.iter().filter(|scope| !required.contains(scope));
        let others = call(Some(others.map(|scope| scope.as_str()).collect())).await?;
        let named = call(Some(required.iter().map(String::as_str).collect())).await?;
        println!(
            "{method} {path}: no token: {missing}; other scopes: {others}; {required:?}: {named}"
        );
        check((missing, others) == (401, 403) && named < 300, "expected 401, 403 and success")?;
    }
    check(operations.len() == 5, "expected 5 operations")?;
    for flow in ["authorizationCode", "clientCredentials"] {
        let scopes = format!("/components/securitySchemes/logto/flows/{flow}/scopes");
        let scopes = document.pointer(&scopes).and_then(Value::as_object);
        let scopes = scopes.map(|scopes| scopes.keys().collect::<BTreeSet<_>>());
        check(scopes == Some(all.clone()), "expected all scopes in each flow")?;
    }
    check_page(&http, &format!("{url}/docs/")).await?;
    println!("Every operation needs the scopes that the document names.");
    Ok(())
}

/// Checks that the page loads nothing from other servers.
async fn check_page(http: &Client, url: &str) -> Result<(), Box<dyn Error>> {
    let page = http.get(url).send().await?.error_for_status()?.text().await?;
    let loads =
        page.split(['"', '\'']).filter(|text| text.contains("://") || text.starts_with("//"));
    let others: Vec<&str> = loads.collect();
    println!("The page loads {others:?} from other servers.");
    check(page.contains("swagger-ui") && others.is_empty(), "expected no other servers")
}

/// Returns the operations, with fixed values in place of the path parameters.
fn operations(document: &Value) -> Result<Vec<Operation>, Box<dyn Error>> {
    let paths = document.get("paths").and_then(Value::as_object).ok_or("no paths")?;
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().ok_or("no operations")? {
            let scopes = operation.pointer("/security/0/logto").and_then(Value::as_array);
            operations.push(Operation {
                method: method.to_uppercase().parse()?,
                path: path.replace("{id}", "1").replace("{org_id}", "acme"),
                scopes: scopes.map(|scopes| {
                    scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }),
            });
        }
    }
    Ok(operations)
}

fn check(holds: bool, expected: &str) -> Result<(), Box<dyn Error>> {
    if holds { Ok(()) } else { Err(expected.into()) }
}
