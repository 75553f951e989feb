//! Attacks with claims, in tokens with a valid signature.

use serde_json::{Value, json};

use super::{Attack, Target, header_of, signed};
use crate::support::{
    NOW,
    Outcome::{
        self, Accepted, BadSignature, CustomClaims, DuplicateMember, Expired, InsufficientScope,
        Malformed, MalformedClaim, MissingClaim, NotYetValid, Oversized, SenderConstrained,
    },
    SHOPPING_API,
};

#[tokio::test]
async fn exp_must_be_a_number_in_the_future() {
    const BAD: Outcome = MalformedClaim("exp");
    let target = Target::start().await;
    let mut attacks = Vec::new();
    for (exp, expected) in [
        ("1795346400", Accepted),
        ("1795346400.0", Accepted),
        ("1795346400.999", Accepted),
        ("17.953464e8", Accepted),
        ("1795346400E0", Accepted),
        ("253402300799", Accepted),
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
        ("null", BAD),
        ("true", BAD),
        ("[1795346400]", BAD),
        ("{\"exp\":1795346400}", BAD),
        ("0", Expired),
        ("-0", Expired),
        ("-0.0", Expired),
        ("1e-400", Expired),
        ("0.1", Expired),
        ("1795342770", Expired),
        ("1795342770.999", Expired),
        ("1795342771", Accepted),
        // A time in milliseconds. If the number is read as seconds, the time is in the year 58,862.
        ("1795346400000", BAD),
    ] {
        let token = target.sign(target.payload_with("exp", exp));
        attacks.push((format!("exp {exp}"), token, expected));
    }
    let invalid_json = [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "0x6b034320",
        "01795346400",
        "+1795346400",
        "1_795_346_400",
        "1795346400.",
        ".5",
        "",
    ];
    for exp in invalid_json {
        let token = target.sign(target.payload_with("exp", exp));
        let outcome = Outcome::of(&target.validator.validate(&token).await);
        // The outcome is `BAD` if the parser fails inside the value, and `Malformed` if it fails
        // after a valid value, for example after the `0` of `0x6b034320`.
        assert!([Malformed, BAD].contains(&outcome), "exp {exp}: {outcome:?}");
        attacks.push((format!("exp {exp}"), token, outcome));
    }
    let token = target.token().without_claim("exp").build();
    attacks.push(("no exp".into(), token, MissingClaim("exp")));
    let token = target.token().without_claim("exp").claim("EXP", NOW + 60).build();
    attacks.push(("EXP".into(), token, MissingClaim("exp")));
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn nbf_must_have_passed_and_iat_must_be_a_number() {
    let target = Target::start().await;
    let mut attacks: Vec<Attack<String>> = Vec::new();
    for (claim, value, expected) in [
        ("nbf", "1795342830", Accepted),
        ("nbf", "1795342831", NotYetValid),
        ("nbf", "1795342830.001", NotYetValid),
        ("nbf", "253402300799", NotYetValid),
        ("nbf", "0", Accepted),
        ("nbf", "\"0\"", MalformedClaim("nbf")),
        ("nbf", "null", MalformedClaim("nbf")),
        ("nbf", "-1", MalformedClaim("nbf")),
        ("nbf", "1e400", MalformedClaim("nbf")),
        ("nbf", "false", MalformedClaim("nbf")),
        // `iat` must be a valid date, but the validator does not compare it with the current time
        // (RFC 7519 §4.1.6).
        ("iat", "1795342900", Accepted),
        ("iat", "0", Accepted),
        ("iat", "-1", MalformedClaim("iat")),
        ("iat", "\"now\"", MalformedClaim("iat")),
        ("iat", "null", MalformedClaim("iat")),
        ("iat", "1e300", MalformedClaim("iat")),
    ] {
        let token = target.sign(target.payload_with(claim, value));
        attacks.push((format!("{claim} {value}"), token, expected));
    }
    target.assert_outcomes(attacks).await;
}

#[tokio::test]
async fn scope_must_match_exactly() {
    const BAD: Outcome = MalformedClaim("scope");
    let target = Target::start().await;
    let both = [
        ("read:products write:products", Accepted),
        ("write:products read:products", Accepted),
        ("  read:products   write:products ", Accepted),
        ("read:products", InsufficientScope),
        ("write:products", InsufficientScope),
        ("", InsufficientScope),
        (" ", InsufficientScope),
        ("read:products\twrite:products", InsufficientScope),
        ("read:products\nwrite:products", InsufficientScope),
        ("read:products\rwrite:products", InsufficientScope),
        ("read:products\u{b}write:products", InsufficientScope),
        ("read:products\u{c}write:products", InsufficientScope),
        ("read:products\0write:products", InsufficientScope),
        ("read:products,write:products", InsufficientScope),
        ("read:products, write:products", InsufficientScope),
        ("read:products;write:products", InsufficientScope),
        ("read:products+write:products", InsufficientScope),
        ("read:products%20write:products", InsufficientScope),
        ("read:products\u{a0}write:products", InsufficientScope),
        ("read:products\u{2003}write:products", InsufficientScope),
        ("read:products\u{3000}write:products", InsufficientScope),
        ("read:products\u{200b} write:products", InsufficientScope),
        ("read:products\u{2028}write:products", InsufficientScope),
        ("\"read:products\" \"write:products\"", InsufficientScope),
        ("read:products write:product", InsufficientScope),
        ("read:products write:products2", InsufficientScope),
        ("read:products xwrite:products", InsufficientScope),
        ("read:products write:products:own", InsufficientScope),
        ("read:products WRITE:PRODUCTS", InsufficientScope),
        ("read:products write:*", InsufficientScope),
        ("read:products write", InsufficientScope),
        ("*", InsufficientScope),
        ("all", InsufficientScope),
        ("admin root read:* write:*", InsufficientScope),
        ("read:products wri\u{301}te:products", InsufficientScope),
        ("read:products wr\u{456}te:products", InsufficientScope),
        ("read:products write:products\0", InsufficientScope),
    ];
    let token = |scope: Value| target.token().claim("scope", scope).build();
    let attack = |(scope, expected)| (format!("scope {scope:?}"), token(json!(scope)), expected);
    target.assert_outcomes_at("/both", both.map(attack)).await;
    let of_another_type = [
        (json!(["read:products", "write:products"]), BAD),
        (json!({ "read:products": true, "write:products": true }), BAD),
        (json!(null), BAD),
        (json!(true), BAD),
        (json!(1), BAD),
    ];
    let attack = |(scope, expected)| (format!("scope {scope}"), token(scope), expected);
    target.assert_outcomes_at("/both", of_another_type.map(attack)).await;
    let elsewhere = ["scp", "scopes", "Scope", "SCOPE", "permissions", "roles", "authorities"];
    let attack = |claim: &str| {
        let token = target.token().without_claim("scope");
        let token = token.claim(claim, "read:products write:products");
        (format!("{claim} instead of scope"), token.build(), InsufficientScope)
    };
    target.assert_outcomes_at("/both", elsewhere.map(attack)).await;
}

#[tokio::test]
async fn ambiguous_payload_json_is_refused() {
    let target = Target::start().await;
    let valid = target.payload();
    let inside = valid.trim_matches(['{', '}']);
    let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let many = |count| (0..count).map(|n| format!(r#","m{n}":1"#)).collect::<String>();
    let members = inside.matches("\":").count();
    let attacks = [
        ("duplicate exp", format!(r#"{{{inside},"exp":9999999999}}"#), DuplicateMember),
        (
            "duplicate exp, escaped",
            format!(r#"{{{inside},"e\u0078p":9999999999}}"#),
            DuplicateMember,
        ),
        ("duplicate scope", format!(r#"{{"scope":"admin",{inside}}}"#), DuplicateMember),
        ("duplicate sub, escaped", format!(r#"{{"\u0073ub":"admin",{inside}}}"#), DuplicateMember),
        (
            "duplicate sub, both escaped",
            r#"{"\u0073ub":"a","s\u0075b":"b"}"#.into(),
            DuplicateMember,
        ),
        ("duplicate aud", format!(r#"{{{inside},"aud":"{SHOPPING_API}"}}"#), DuplicateMember),
        ("duplicate iss", format!(r#"{{{inside},"iss":"https://evil.example"}}"#), DuplicateMember),
        (
            "duplicate organization_id",
            format!(r#"{{{inside},"organization_id":"a","organization_id":"a"}}"#),
            DuplicateMember,
        ),
        ("duplicate unknown claim", format!(r#"{{{inside},"x":1,"x":1}}"#), DuplicateMember),
        ("duplicate empty name", format!(r#"{{{inside},"":1,"":1}}"#), DuplicateMember),
        ("a NUL in a name", format!(r#"{{{inside},"exp\u0000":1}}"#), Accepted),
        ("more than 64 members", format!("{{{inside}{}}}", many(65 - members)), DuplicateMember),
        (
            "more than 64 members, some escaped",
            format!(r#"{{"\u0078":0,{inside}{}}}"#, many(64 - members)),
            DuplicateMember,
        ),
        ("64 members", format!("{{{inside}{}}}", many(64 - members)), Accepted),
        ("__proto__", format!(r#"{{{inside},"__proto__":{{"scope":"admin"}}}}"#), Accepted),
        ("an array", format!("[{valid}]"), Malformed),
        ("a string", format!("{valid:?}"), Malformed),
        ("null", "null".into(), Malformed),
        ("two objects", format!("{valid}{valid}"), Malformed),
        ("a trailing byte", format!("{valid}x"), Malformed),
        ("a trailing NUL", format!("{valid}\0"), Malformed),
        ("a trailing bracket", format!("{valid}}}"), Malformed),
        ("truncated", valid.trim_end_matches('}').into(), Malformed),
        ("a trailing comma", format!("{{{inside},}}"), Malformed),
        ("a comment", format!("{{{inside}//\n}}"), Malformed),
        ("a BOM", format!("\u{feff}{valid}"), Malformed),
        ("whitespace around", format!("\n {valid}\t "), Accepted),
        ("an unescaped newline in a string", format!("{{{inside},\"x\":\"\n\"}}"), Malformed),
        ("a lone surrogate in a claim", format!(r#"{{{inside},"jti2":1,"x":"\ud800"}}"#), Accepted),
        ("a lone surrogate in a name", format!(r#"{{{inside},"\ud800":1}}"#), Malformed),
        (
            "a number out of range in an unknown claim",
            format!(r#"{{{inside},"x":1e999}}"#),
            Accepted,
        ),
        ("4,000 unclosed arrays", format!("{{{inside},\"x\":{}", "[".repeat(4_000)), Malformed),
        (
            "4,000 unclosed arrays as sub",
            format!(r#"{{"sub":{}"#, "[".repeat(4_000)),
            MalformedClaim("sub"),
        ),
        (
            "4,000 nested arrays in an unknown claim",
            format!("{{{inside},\"x\":{}}}", deep(4_000)),
            Accepted,
        ),
    ];
    let attacks = attacks.map(|(name, payload, expected)| (name, target.sign(payload), expected));
    target.assert_outcomes(attacks).await;

    let mut bytes = Vec::new();
    for (name, invalid) in [
        ("invalid UTF-8", &b"\xff"[..]),
        ("an overlong encoding", b"\xc0\xaf"),
        ("a surrogate in UTF-8", b"\xed\xa0\x80"),
        ("a truncated character", b"\xe2\x82"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
    ] {
        let payload = [&b"{\"x\":\""[..], invalid, b"\",", inside.as_bytes(), b"}"].concat();
        bytes.push((name, target.sign(payload), Malformed));
    }
    let utf_16: Vec<u8> = valid.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.push(("UTF-16", target.sign(utf_16), Malformed));
    target.assert_outcomes(bytes).await;
}

#[tokio::test]
async fn deeply_nested_payload_does_not_overflow_the_stack() {
    let target = Target::with(|builder| builder.max_token_size(1024 * 1024)).await;
    let valid = target.payload();
    let inside = valid.trim_matches(['{', '}']);
    let arrays = "[".repeat(10_000) + &"]".repeat(10_000);
    let objects = r#"{"x":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    let deep = [
        ("arrays in a custom claim", format!("{{{inside},\"x\":{arrays}}}")),
        ("objects in a custom claim", format!("{{{inside},\"x\":{objects}}}")),
    ];
    let deep = deep.map(|(name, payload)| (name, target.sign(payload)));
    target.assert_outcomes(deep.clone().map(|(name, token)| (name, token, Accepted))).await;
    // The `Claims` extractor refuses the token, and the stack does not overflow.
    target
        .assert_outcomes_at(
            "/claims",
            deep.clone().map(|(name, token)| (name, token, CustomClaims)),
        )
        .await;
    let claims = ["sub", "aud", "exp", "scope"].map(|claim| {
        let name = format!("arrays as {claim}");
        (name, target.sign(target.payload_with(claim, &arrays)), MalformedClaim(claim))
    });
    target.assert_outcomes(claims).await;
    let bound = target.sign(target.payload_with("cnf", &arrays));
    let alone = target.sign(&arrays);
    target
        .assert_outcomes([
            ("arrays as cnf", bound, SenderConstrained),
            ("only arrays", alone, Malformed),
            ("only objects", target.sign(&objects), MissingClaim("iss")),
        ])
        .await;
    let small = Target::start().await;
    let token = signed(&small.key(), header_of(&small.key()).to_string(), deep_payload(&small));
    small.assert_outcomes([("above the default size limit", token, Oversized)]).await;
}

fn deep_payload(target: &Target) -> String {
    target.payload_with("x", "[".repeat(10_000) + &"]".repeat(10_000))
}

#[tokio::test]
async fn tokens_without_a_subject_and_tokens_bound_to_a_key_are_refused() {
    let target = Target::start().await;
    let invalid = MalformedClaim("sub");
    let missing = MissingClaim("sub");
    let bound = SenderConstrained;
    let attacks = [
        ("no sub", target.token().without_claim("sub"), missing),
        ("empty sub", target.token().claim("sub", ""), missing),
        ("sub null", target.token().claim("sub", Value::Null), invalid),
        ("sub 0", target.token().claim("sub", 0), invalid),
        ("sub an array", target.token().claim("sub", json!(["admin"])), invalid),
        ("client_id 7", target.token().claim("client_id", 7), MalformedClaim("client_id")),
        ("jti null", target.token().claim("jti", Value::Null), MalformedClaim("jti")),
        ("DPoP", target.token().claim("cnf", json!({ "jkt": "x" })), bound),
        ("mTLS", target.token().claim("cnf", json!({ "x5t#S256": "x" })), bound),
        ("cnf null", target.token().claim("cnf", Value::Null), bound),
        ("an invalid signature", target.token().bad_signature(), BadSignature),
    ];
    target
        .assert_outcomes(attacks.map(|(name, token, expected)| (name, token.build(), expected)))
        .await;
}
