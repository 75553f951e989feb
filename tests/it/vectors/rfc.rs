//! The examples of RFC 7515, RFC 7520, RFC 7797 and RFC 8037.

use serde_json::{Value, json};

use super::{Tally, assert_no_access_token, key_set, read, verify_jws};
use crate::support::fixtures;

#[test]
fn rfc_7515_appendix_a() {
    let file = "rfc7515/appendix_a.json";
    let mut tally = Tally::default();
    for vector in read(file)["vectors"].as_array().unwrap() {
        let jws = vector["jws"].as_str().unwrap();
        let found = verify_jws(&vector["jwk"], jws);
        assert_no_access_token(jws, &found);
        tally.count(&vector["id"], vector["result"] == "valid", &found);
    }
    tally.assert_matches_table(file);
}

#[test]
fn rfc_7520_section_3_keys() {
    let folder = "rfc7520/jwk";
    let mut tally = Tally::default();
    for (file, key) in files(folder) {
        let found = key_set(&key).map(drop);
        tally.count(&file, file.contains("public_key"), &found);
        if file.contains("private_key") {
            key_set(&public(&key)).unwrap();
        }
    }
    tally.assert_matches_table(folder);
}

#[test]
fn rfc_7520_section_4_signatures() {
    check_examples("rfc7520/jws");
}

#[test]
fn rfc_7797_unencoded_payloads() {
    check_examples("rfc7520/rfc7797");
}

#[test]
fn rfc_8037_edwards_curves() {
    check_examples("rfc7520/curve25519");
}

/// Checks every serialization of every example. All examples are valid. If an example has no
/// compact serialization, this function builds one from each signature.
fn check_examples(folder: &str) {
    let mut tally = Tally::default();
    for (file, recipe) in files(folder) {
        let keys = public(&recipe["input"]["key"]);
        let outputs = recipe["output"].as_object().unwrap();
        let mut texts: Vec<_> = outputs.values().map(text).collect();
        if !outputs.contains_key("compact") {
            let signing = &recipe["signing"];
            let several = signing.as_array().map_or(std::slice::from_ref(signing), Vec::as_slice);
            let join = |one: &Value| format!("{}.{}", text(&one["sig-input"]), text(&one["sig"]));
            texts.extend(several.iter().map(join));
        }
        for text in texts {
            let found = verify_jws(&keys, &text);
            assert_no_access_token(&text, &found);
            tally.count(format!("{file}: {text}"), true, &found);
        }
    }
    tally.assert_matches_table(folder);
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the public part of a key. For an array of keys, returns a JWKS with their public parts.
fn public(key: &Value) -> Value {
    if let Value::Array(keys) = key {
        return json!({ "keys": keys.iter().map(public).collect::<Vec<_>>() });
    }
    let mut key = key.clone();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        key.as_object_mut().unwrap().remove(private);
    }
    key
}

fn files(folder: &str) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(fixtures::path("vectors").join(folder)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&format!("{folder}/{name}")))).collect()
}
