//! The messages of the compiler. `TRYBUILD=overwrite cargo test -p compile-errors` writes them.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
