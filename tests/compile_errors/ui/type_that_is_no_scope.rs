use tower_logto::{AccessToken, AuthError, Require};

struct ReadProducts;

fn body(token: &AccessToken) -> Result<(), AuthError> {
    token.require_scope::<ReadProducts>()
}

fn route() -> Require {
    Require::global().scope::<ReadProducts>()
}

fn main() {}
