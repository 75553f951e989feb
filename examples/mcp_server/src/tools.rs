//! The tools of the MCP server. Each tool checks that the token has the scope that the tool needs.

use http::request::Parts;
use rmcp::{
    ErrorData, ServerHandler,
    handler::server::{common::Extension, router::tool::ToolRouter},
    model::{ServerCapabilities, ServerConfig},
    tool, tool_handler, tool_router,
};
use serde_json::json;
use tower_logto::{AccessToken, AuthError};

pub(crate) const READ: &str = "read:products";
pub(crate) const DELETE: &str = "delete:products";

#[derive(Debug, Clone)]
pub(crate) struct Shop {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Shop {
    pub(crate) fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(description = "Lists the products. Needs the scope read:products.")]
    async fn list_products(&self, parts: Extension<Parts>) -> Result<String, ErrorData> {
        let token = require(&parts.0, READ)?;
        Ok(format!("bread and butter for {}", token.subject()))
    }

    #[tool(description = "Deletes all products. Needs the scope delete:products.")]
    async fn delete_products(&self, parts: Extension<Parts>) -> Result<String, ErrorData> {
        require(&parts.0, DELETE)?;
        Ok("deleted".into())
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Shop {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Returns the token if it has the scope. `AuthLayer` puts the token into the extensions of the
/// HTTP request. rmcp passes the parts of the HTTP request to the tool, and these parts include the
/// extensions.
///
/// A tool cannot change the HTTP response. If the scope is missing, the function therefore returns
/// a JSON-RPC error that names the scope.
fn require<'a>(parts: &'a Parts, scope: &'static str) -> Result<&'a AccessToken, ErrorData> {
    let token = parts.extensions.get::<AccessToken>();
    let token = token.ok_or_else(|| refusal(&AuthError::missing_token(), scope))?;
    token.require_scopes([scope]).map_err(|error| refusal(&error, scope))?;
    Ok(token)
}

fn refusal(error: &AuthError, scope: &str) -> ErrorData {
    let description = error.description().unwrap_or("the request has no access token");
    let data = json!({ "error": error.code(), "scope": scope });
    ErrorData::invalid_request(description, Some(data))
}
