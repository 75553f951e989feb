//! The route `/api/applications` of the Management API in the test kit.

use super::*;

async fn get(issuer: &TestIssuer, query: &str, token: Option<TokenBuilder>) -> Response {
    let mut request = client().get(format!("{}/api/applications{query}", issuer.endpoint()));
    if let Some(token) = token {
        request = request.bearer_auth(token.build());
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn refused_request_gets_the_captured_error() {
    let (issuer, ..) = start().await;
    let without_scope = issuer.token().audience(TestIssuer::MANAGEMENT_API);
    for (name, status, token) in [("no-token", 401, None), ("noscope", 403, Some(without_scope))] {
        let response = get(&issuer, "", token).await;
        assert_eq!(response.status(), status, "{name}");
        let (_, body) = captured(&format!("management-api/{name}"));
        assert_eq!(response.text().await.unwrap(), body, "{name}");
    }
}

#[tokio::test]
async fn applications_are_returned_in_pages() {
    let apps = ["a", "b", "c"].map(|id| TestApp::new(id, "secret"));
    let builder = apps.into_iter().fold(TestIssuer::builder(), |builder, app| builder.app(app));
    let issuer = builder.start().await.unwrap();
    for (query, status, shown, next) in [
        ("", 200, 3, false),
        ("?page_size=2", 200, 2, true),
        ("?page=2&page_size=2", 200, 1, false),
        ("?page=3&page_size=1", 200, 1, false),
        ("?page=18446744073709551615&page_size=2", 200, 0, false),
        ("?page=0", 400, 0, false),
        ("?page_size=101", 400, 0, false),
    ] {
        let response = get(&issuer, query, Some(issuer.token().management_api())).await;
        assert_eq!(response.status(), status, "{query}");
        assert_eq!(response.headers().contains_key(header::LINK), next, "{query}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body.as_array().map_or(0, Vec::len), shown, "{query}");
    }
}
