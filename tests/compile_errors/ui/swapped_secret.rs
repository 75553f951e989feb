use tower_logto::{
    Issuer,
    m2m::{ClientSecret, TokenClient},
};

fn swapped(issuer: &Issuer) {
    let _ = TokenClient::new(issuer, ClientSecret::new("secret"), "app id");
}

fn text(issuer: &Issuer) {
    let _ = TokenClient::new(issuer, "app id", "secret");
}

fn main() {}
