//! Compares the messages of the compiler with the expected messages.
//!
//! `TRYBUILD=overwrite cargo test -p compile-errors` writes the expected messages.

#[test]
fn compiler_messages_explain_the_mistakes() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
