const SPACED: &str = "write products";

tower_logto::scopes! {
    pub ReadProducts = "read:products";
    pub Both = "read:products write:products";
    pub Write = SPACED;
    pub Manage = all["read:products", "write:caf\u{e9}"];
}

fn main() {}
