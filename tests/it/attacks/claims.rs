//! Attacks by way of the claims: rightly signed by the issuer, for whatever reason, and no good.

use super::{Attack, LET_IN, MALFORMED, MEMBERS, OVERSIZED, SIGNATURE, Target, header_of, signed};
use crate::support::SHOP;
use serde_json::{Value, json};

const EXPIRED: &str = "InvalidToken(Expired";
const SCOPE: &str = "InsufficientScope(";

/// The moment of the manual clock.
const NOW: u64 = 1_795_342_800;

#[tokio::test]
async fn exp_of_every_form() {
    const BAD: &str = r#"InvalidToken(MalformedClaim("exp"))"#;
    // No JSON at all, and found out before or after the claim's name.
    const NO_JSON: &str = "InvalidToken(Malformed";
    let target = Target::set().await;
    let mut attacks = Vec::new();
    for (exp, reason) in [
        ("1795346400", LET_IN),
        ("1795346400.0", LET_IN),
        ("1795346400.999", LET_IN),
        ("17.953464e8", LET_IN),
        ("1795346400E0", LET_IN),
        ("253402300799", LET_IN),
        ("\"1795346400\"", BAD),
        ("\"never\"", BAD),
        ("\"2099-01-01T00:00:00Z\"", BAD),
        ("253402300800", BAD),
        ("9007199254740993", BAD),
        ("9223372036854775807", BAD),
        ("9223372036854775808", BAD),
        ("18446744073709551615", BAD),
        ("18446744073709551616", BAD),
        ("999999999999999999999999999999999999", BAD),
        ("1e19", BAD),
        ("1e300", BAD),
        ("1e400", BAD),
        ("1e99999999999", BAD),
        ("-1e400", BAD),
        ("-1", BAD),
        ("-1795346400", BAD),
        ("-9223372036854775808", BAD),
        ("-0.5", BAD),
        ("NaN", NO_JSON),
        ("nan", NO_JSON),
        ("Infinity", NO_JSON),
        ("-Infinity", NO_JSON),
        ("null", BAD),
        ("true", BAD),
        ("[1795346400]", BAD),
        ("{\"exp\":1795346400}", BAD),
        ("0x6b034320", NO_JSON),
        ("01795346400", NO_JSON),
        ("+1795346400", NO_JSON),
        ("1_795_346_400", NO_JSON),
        ("1795346400.", NO_JSON),
        (".5", NO_JSON),
        ("", NO_JSON),
        ("0", EXPIRED),
        ("-0", EXPIRED),
        ("-0.0", EXPIRED),
        ("1e-400", EXPIRED),
        ("0.1", EXPIRED),
        ("1795342770", EXPIRED),
        ("1795342770.999", EXPIRED),
        ("1795342771", LET_IN),
        // In milliseconds: the year 58,861.
        ("1795346400000", BAD),
    ] {
        let token = target.sign(target.payload_with("exp", exp));
        attacks.push((format!("exp {exp}"), token, reason));
    }
    let token = target.token().without_claim("exp").build();
    attacks.push(("no exp".into(), token, "InvalidToken(MissingClaim(\"exp\"))"));
    let token = target.token().without_claim("exp").claim("EXP", NOW + 60).build();
    attacks.push(("EXP".into(), token, "InvalidToken(MissingClaim(\"exp\"))"));
    target.repel(attacks).await;
}

#[tokio::test]
async fn nbf_and_iat_of_every_form() {
    let target = Target::set().await;
    let mut attacks: Vec<Attack<String>> = Vec::new();
    for (claim, value, reason) in [
        ("nbf", "1795342830", LET_IN),
        ("nbf", "1795342831", "InvalidToken(NotYetValid"),
        ("nbf", "1795342830.001", "InvalidToken(NotYetValid"),
        ("nbf", "253402300799", "InvalidToken(NotYetValid"),
        ("nbf", "0", LET_IN),
        ("nbf", "\"0\"", "InvalidToken(MalformedClaim(\"nbf\""),
        ("nbf", "null", "InvalidToken(MalformedClaim(\"nbf\""),
        ("nbf", "-1", "InvalidToken(MalformedClaim(\"nbf\""),
        ("nbf", "1e400", "InvalidToken(MalformedClaim(\"nbf\""),
        ("nbf", "false", "InvalidToken(MalformedClaim(\"nbf\""),
        // `iat` decides nothing (RFC 7519 §4.1.6), and must be a date all the same.
        ("iat", "1795342900", LET_IN),
        ("iat", "0", LET_IN),
        ("iat", "-1", "InvalidToken(MalformedClaim(\"iat\""),
        ("iat", "\"now\"", "InvalidToken(MalformedClaim(\"iat\""),
        ("iat", "null", "InvalidToken(MalformedClaim(\"iat\""),
        ("iat", "1e300", "InvalidToken(MalformedClaim(\"iat\""),
    ] {
        let token = target.sign(target.payload_with(claim, value));
        attacks.push((format!("{claim} {value}"), token, reason));
    }
    target.repel(attacks).await;
}

#[tokio::test]
async fn scopes_that_are_almost_the_demanded_ones() {
    const BAD: &str = r#"InvalidToken(MalformedClaim("scope"))"#;
    let target = Target::set().await;
    let both = [
        ("read:products write:products", LET_IN),
        ("write:products read:products", LET_IN),
        ("  read:products   write:products ", LET_IN),
        ("read:products", SCOPE),
        ("write:products", SCOPE),
        ("", SCOPE),
        (" ", SCOPE),
        ("read:products\twrite:products", SCOPE),
        ("read:products\nwrite:products", SCOPE),
        ("read:products\rwrite:products", SCOPE),
        ("read:products\u{b}write:products", SCOPE),
        ("read:products\u{c}write:products", SCOPE),
        ("read:products\0write:products", SCOPE),
        ("read:products,write:products", SCOPE),
        ("read:products, write:products", SCOPE),
        ("read:products;write:products", SCOPE),
        ("read:products+write:products", SCOPE),
        ("read:products%20write:products", SCOPE),
        ("read:products\u{a0}write:products", SCOPE),
        ("read:products\u{2003}write:products", SCOPE),
        ("read:products\u{3000}write:products", SCOPE),
        ("read:products\u{200b} write:products", SCOPE),
        ("read:products\u{2028}write:products", SCOPE),
        ("\"read:products\" \"write:products\"", SCOPE),
        ("read:products write:product", SCOPE),
        ("read:products write:products2", SCOPE),
        ("read:products xwrite:products", SCOPE),
        ("read:products write:products:own", SCOPE),
        ("read:products WRITE:PRODUCTS", SCOPE),
        ("read:products write:*", SCOPE),
        ("read:products write", SCOPE),
        ("*", SCOPE),
        ("all", SCOPE),
        ("admin root read:* write:*", SCOPE),
        ("read:products wri\u{301}te:products", SCOPE),
        ("read:products wr\u{456}te:products", SCOPE),
        ("read:products write:products\0", SCOPE),
    ];
    let token = |scope: Value| target.token().claim("scope", scope).build();
    let attack = |(scope, reason)| (format!("scope {scope:?}"), token(json!(scope)), reason);
    target.repel_at("/both", both.map(attack)).await;
    let of_another_type = [
        (json!(["read:products", "write:products"]), BAD),
        (json!({ "read:products": true, "write:products": true }), BAD),
        (json!(null), BAD),
        (json!(true), BAD),
        (json!(1), BAD),
    ];
    let attack = |(scope, reason)| (format!("scope {scope}"), token(scope), reason);
    target.repel_at("/both", of_another_type.map(attack)).await;
    let elsewhere = ["scp", "scopes", "Scope", "SCOPE", "permissions", "roles", "authorities"];
    let attack = |claim: &str| {
        let token = target.token().without_claim("scope");
        let token = token.claim(claim, "read:products write:products");
        (format!("{claim} instead of scope"), token.build(), SCOPE)
    };
    target.repel_at("/both", elsewhere.map(attack)).await;
}

#[tokio::test]
async fn payloads_that_two_parsers_read_differently() {
    let target = Target::set().await;
    let good = target.payload();
    let inside = good.trim_matches(['{', '}']);
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let many = |count| (0..count).map(|n| format!(r#","m{n}":1"#)).collect::<String>();
    let members = inside.matches("\":").count();
    let attacks = [
        ("exp twice", format!(r#"{{{inside},"exp":9999999999}}"#), MEMBERS),
        ("exp twice, escaped", format!(r#"{{{inside},"e\u0078p":9999999999}}"#), MEMBERS),
        ("scope twice", format!(r#"{{"scope":"admin",{inside}}}"#), MEMBERS),
        ("sub twice, escaped", format!(r#"{{"\u0073ub":"admin",{inside}}}"#), MEMBERS),
        ("sub twice, both escaped", r#"{"\u0073ub":"a","s\u0075b":"b"}"#.into(), MEMBERS),
        ("aud twice", format!(r#"{{{inside},"aud":"{SHOP}"}}"#), MEMBERS),
        ("iss twice", format!(r#"{{{inside},"iss":"https://evil.example"}}"#), MEMBERS),
        (
            "organization_id twice",
            format!(r#"{{{inside},"organization_id":"a","organization_id":"a"}}"#),
            MEMBERS,
        ),
        ("a stranger twice", format!(r#"{{{inside},"x":1,"x":1}}"#), MEMBERS),
        ("an empty name twice", format!(r#"{{{inside},"":1,"":1}}"#), MEMBERS),
        ("a NUL in a name", format!(r#"{{{inside},"exp\u0000":1}}"#), LET_IN),
        ("more than 64 members", format!("{{{inside}{}}}", many(65 - members)), MEMBERS),
        (
            "more than 64 members, escaped or not",
            format!(r#"{{"\u0078":0,{inside}{}}}"#, many(64 - members)),
            MEMBERS,
        ),
        ("64 members", format!("{{{inside}{}}}", many(64 - members)), LET_IN),
        ("__proto__", format!(r#"{{{inside},"__proto__":{{"scope":"admin"}}}}"#), LET_IN),
        ("an array", format!("[{good}]"), MALFORMED),
        ("a string", format!("{good:?}"), MALFORMED),
        ("null", "null".into(), MALFORMED),
        ("two objects", format!("{good}{good}"), MALFORMED),
        ("a byte behind", format!("{good}x"), MALFORMED),
        ("a NUL behind", format!("{good}\0"), MALFORMED),
        ("a bracket behind", format!("{good}}}"), MALFORMED),
        ("cut", good.trim_end_matches('}').into(), MALFORMED),
        ("a comma at the end", format!("{{{inside},}}"), MALFORMED),
        ("a comment", format!("{{{inside}//\n}}"), MALFORMED),
        ("a BOM", format!("\u{feff}{good}"), MALFORMED),
        ("space around", format!("\n {good}\t "), LET_IN),
        ("a bare newline in a string", format!("{{{inside},\"x\":\"\n\"}}"), MALFORMED),
        ("a lone surrogate in a claim", format!(r#"{{{inside},"jti2":1,"x":"\ud800"}}"#), LET_IN),
        ("a lone surrogate in a name", format!(r#"{{{inside},"\ud800":1}}"#), MALFORMED),
        ("a number out of range in a stranger", format!(r#"{{{inside},"x":1e999}}"#), LET_IN),
        (
            "4,000 brackets that never close",
            format!("{{{inside},\"x\":{}", "[".repeat(4_000)),
            MALFORMED,
        ),
        (
            "4,000 brackets as sub",
            format!(r#"{{"sub":{}"#, "[".repeat(4_000)),
            r#"InvalidToken(MalformedClaim("sub"))"#,
        ),
        ("4,000 deep in a stranger", format!("{{{inside},\"x\":{}}}", deep(4_000)), LET_IN),
    ];
    let attacks = attacks.map(|(name, payload, reason)| (name, target.sign(payload), reason));
    target.repel(attacks).await;

    let mut bytes = Vec::new();
    for (name, nasty) in [
        ("a byte that is no UTF-8", &b"\xff"[..]),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate in UTF-8", b"\xed\xa0\x80"),
        ("a cut character", b"\xe2\x82"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
    ] {
        let payload = [&b"{\"x\":\""[..], nasty, b"\",", inside.as_bytes(), b"}"].concat();
        bytes.push((name, target.sign(payload), MALFORMED));
    }
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.push(("UTF-16", target.sign(utf_16), MALFORMED));
    target.repel(bytes).await;
}

#[tokio::test]
async fn payloads_ten_thousand_deep() {
    let target = Target::set_with(|builder| builder.max_token_size(1024 * 1024)).await;
    let good = target.payload();
    let inside = good.trim_matches(['{', '}']);
    let arrays = "[".repeat(10_000) + &"]".repeat(10_000);
    let objects = r#"{"x":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    let deep = [
        ("arrays in a custom claim", format!("{{{inside},\"x\":{arrays}}}")),
        ("objects in a custom claim", format!("{{{inside},\"x\":{objects}}}")),
    ];
    let deep = deep.map(|(name, payload)| (name, target.sign(payload)));
    target.repel(deep.clone().map(|(name, token)| (name, token, LET_IN))).await;
    // Who asks for the claims gets a refusal, not the end of the stack.
    let reason = "InvalidToken(CustomClaims(";
    target.repel_at("/claims", deep.clone().map(|(name, token)| (name, token, reason))).await;
    let malformed = |claim| match claim {
        "sub" => r#"InvalidToken(MalformedClaim("sub"))"#,
        "aud" => r#"InvalidToken(MalformedClaim("aud"))"#,
        "exp" => r#"InvalidToken(MalformedClaim("exp"))"#,
        _ => r#"InvalidToken(MalformedClaim("scope"))"#,
    };
    let claims = ["sub", "aud", "exp", "scope"].map(|claim| {
        let name = format!("arrays as {claim}");
        (name, target.sign(target.payload_with(claim, &arrays)), malformed(claim))
    });
    target.repel(claims).await;
    let bound = target.sign(target.payload_with("cnf", &arrays));
    let alone = target.sign(&arrays);
    target
        .repel([
            ("arrays as cnf", bound, "InvalidToken(SenderConstrained)"),
            ("arrays and nothing else", alone, MALFORMED),
            (
                "objects and nothing else",
                target.sign(&objects),
                "InvalidToken(MissingClaim(\"iss\"))",
            ),
        ])
        .await;
    let small = Target::set().await;
    let token = signed(&small.key(), header_of(&small.key()).to_string(), deep_payload(&small));
    small.repel([("at the usual limit", token, OVERSIZED)]).await;
}

fn deep_payload(target: &Target) -> String {
    target.payload_with("x", "[".repeat(10_000) + &"]".repeat(10_000))
}

#[tokio::test]
async fn subjects_and_bound_tokens() {
    let target = Target::set().await;
    let bad = r#"InvalidToken(MalformedClaim("sub"))"#;
    let missing = r#"InvalidToken(MissingClaim("sub"))"#;
    let bound = "InvalidToken(SenderConstrained)";
    let attacks = [
        ("no sub", target.token().without_claim("sub"), missing),
        ("an empty sub", target.token().claim("sub", ""), missing),
        ("sub null", target.token().claim("sub", Value::Null), bad),
        ("sub 0", target.token().claim("sub", 0), bad),
        ("sub an array", target.token().claim("sub", json!(["admin"])), bad),
        (
            "client_id 7",
            target.token().claim("client_id", 7),
            r#"InvalidToken(MalformedClaim("client_id"))"#,
        ),
        (
            "jti null",
            target.token().claim("jti", Value::Null),
            r#"InvalidToken(MalformedClaim("jti"))"#,
        ),
        ("DPoP", target.token().claim("cnf", json!({ "jkt": "x" })), bound),
        ("mTLS", target.token().claim("cnf", json!({ "x5t#S256": "x" })), bound),
        ("cnf null", target.token().claim("cnf", Value::Null), bound),
        ("a signature of nobody's", target.token().bad_signature(), SIGNATURE),
    ];
    target.repel(attacks.map(|(name, token, reason)| (name, token.build(), reason))).await;
}
