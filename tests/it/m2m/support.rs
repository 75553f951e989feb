//! Helpers for the tests of the token client.

use tower_logto::{
    Issuer,
    m2m::{ClientSecret, TokenClient, TokenClientBuilder, TokenRequest},
    testing::{ManualClock, TestApp, TestIssuer},
};

use crate::support::{RawServer, ReceivedRequest, SHOPPING_API, keep_alive_response};

pub(super) const SECRET: &str = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";

pub(super) fn secret() -> ClientSecret {
    ClientSecret::new(SECRET)
}

pub(super) fn read() -> TokenRequest {
    TokenRequest::resource(SHOPPING_API).scopes(["read:products"])
}

/// Starts a test issuer with an application that has all permissions that the tests need.
pub(super) async fn logto(clock: &ManualClock) -> TestIssuer {
    let app = TestApp::new("app", SECRET)
        .grant(SHOPPING_API, ["read:products", "write:products"])
        .grant(TestIssuer::MANAGEMENT_API, ["all"])
        .organization("acme", ["invite:member"])
        .organization_grant("acme", SHOPPING_API, ["read:orders"]);
    TestIssuer::builder().clock(clock.clone()).app(app).start().await.unwrap()
}

pub(super) fn client_of(issuer: &TestIssuer, clock: &ManualClock) -> TokenClient {
    TokenClient::builder(&issuer.issuer(), "app", secret()).clock(clock.clone()).build().unwrap()
}

/// Starts a server that responds to each request with the bytes that the function returns. The
/// function gets the number of the request, starting at 0.
pub(super) fn serve(
    respond: impl Fn(usize, &ReceivedRequest) -> Vec<u8> + Send + Sync + 'static,
) -> RawServer {
    RawServer::responding_with(move |request| respond(request.number, request))
}

/// Returns the builder of a client whose token endpoint is on this server.
pub(super) fn client_at(server: &RawServer) -> TokenClientBuilder {
    TokenClient::builder(&Issuer::logto(&server.url()).unwrap(), "app", secret())
}

/// Builds a response from a status, header lines and a body. Each header line must end with CRLF.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    keep_alive_response(format!("{status}\r\n{headers}").trim_end(), body)
}

pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    response(status, "content-type: application/json; charset=utf-8\r\n", body)
}

/// Builds a token response with this token and the scope `read:products`.
pub(super) fn granted(token: &str) -> Vec<u8> {
    let members = "\"expires_in\":3600,\"token_type\":\"Bearer\",\"scope\":\"read:products\"";
    json("200 OK", &format!("{{\"access_token\":\"{token}\",{members}}}"))
}
