//! The gRPC service. Your own service also needs the code that `build.rs` generates, and an
//! implementation of the generated trait.

use tokio_stream::Iter;
use tonic::{Request, Response, Status};
use tower_logto::{AccessToken, AuthError};

use crate::catalogue::pb::{Deleted, ListRequest, Product, Products, catalogue_server};

/// The code that `build.rs` generates.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::exhaustive_structs,
    clippy::missing_errors_doc,
    clippy::use_self,
    reason = "generated"
)]
pub(crate) mod pb {
    tonic::include_proto!("shop");
}

#[derive(Debug)]
pub(crate) struct Catalogue;

#[tonic::async_trait]
impl catalogue_server::Catalogue for Catalogue {
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Products>, Status> {
        Ok(Response::new(Products { products: products().collect() }))
    }

    type WatchStream = Iter<std::vec::IntoIter<Result<Product, Status>>>;

    async fn watch(&self, _: Request<ListRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let products: Vec<_> = products().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(products)))
    }

    async fn delete(&self, request: Request<Product>) -> Result<Response<Deleted>, Status> {
        let token = request.extensions().get::<AccessToken>();
        let token = token.ok_or_else(AuthError::missing_token)?;
        token.require_scopes(["delete:products"])?;
        Ok(Response::new(Deleted { by: token.subject().into() }))
    }
}

fn products() -> impl Iterator<Item = Product> {
    ["bread", "butter", "jam"].into_iter().map(|name| Product { name: name.into() })
}
