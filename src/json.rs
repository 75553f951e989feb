//! Reads JSON from untrusted sources. `read_unique_members` refuses objects with duplicate members.
//! `Text` and `OneOrMany` borrow strings that contain no escapes.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};

use crate::{error::InvalidToken, escape::Escaped};

/// Receives an object's members one by one.
pub(crate) trait MemberVisitor<'de> {
    /// Reads the value of one member.
    fn visit<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error>;
}

/// Reads exactly one JSON object without duplicate members. If the object has a duplicate member or
/// too many members, the error is `DuplicateMember`. Any other error is `Malformed(malformed)`.
///
/// The derive macro of serde is not enough, because it accepts an array in place of an object, and
/// accepts duplicates of unknown members.
pub(crate) fn read_unique_members<'de>(
    json: &'de str,
    members: &mut impl MemberVisitor<'de>,
    malformed: &'static str,
) -> Result<(), InvalidToken> {
    struct ObjectVisitor<'m, M> {
        members: &'m mut M,
        found_duplicate: &'m mut bool,
    }

    impl<'de, M: MemberVisitor<'de>> Visitor<'de> for ObjectVisitor<'_, M> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut names = MemberNames::new();
            while let Some(name) = map.next_key()? {
                if !names.insert(&name) {
                    *self.found_duplicate = true;
                    return Err(de::Error::custom("duplicate member"));
                }
                self.members.visit(&name.0, &mut map)?;
            }
            Ok(())
        }
    }

    let mut found_duplicate = false;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let visitor = ObjectVisitor { members, found_duplicate: &mut found_duplicate };
    match deserializer.deserialize_map(visitor).and_then(|()| deserializer.end()) {
        Ok(()) => Ok(()),
        Err(_) if found_duplicate => Err(InvalidToken::DuplicateMember),
        Err(_) => Err(InvalidToken::Malformed(malformed)),
    }
}

/// A bounded set of the member names of one object. It allocates only for names with escapes, and
/// for objects with more than 16 members.
struct MemberNames<'de> {
    /// The first `MAX_INLINE` names that contain no escapes.
    inline: [&'de str; MAX_INLINE],
    inline_count: usize,
    others: Vec<Cow<'de, str>>,
    /// A set of 64 bits. The length, the first byte and the last byte of a name choose one of the
    /// bits. If that bit is not set yet, the name is new. Most names therefore need no comparison.
    /// No two claims of a Logto token choose the same bit.
    shapes: u64,
}

impl<'de> MemberNames<'de> {
    const fn new() -> Self {
        Self { inline: [""; MAX_INLINE], inline_count: 0, others: Vec::new(), shapes: 0 }
    }

    /// Inserts a name. Returns `false` if the name is a duplicate or the set is full.
    fn insert(&mut self, Text(name): &Text<'de>) -> bool {
        let (inline, free) = self.inline.split_at_mut(self.inline_count);
        let ends = [name.as_bytes().first(), name.as_bytes().last()].map(|end| *end.unwrap_or(&0));
        let shape = 1 << ((name.len() ^ usize::from(ends[0] ^ ends[1])) % 64);
        if self.shapes & shape != 0
            && (inline.contains(&name.as_ref()) || self.others.contains(name))
        {
            return false;
        }
        self.shapes |= shape;
        if let (Cow::Borrowed(name), Some(slot)) = (name, free.first_mut()) {
            *slot = name;
            self.inline_count += 1;
        } else {
            self.others.push(name.clone());
        }
        self.inline_count + self.others.len() <= MAX_MEMBERS
    }
}

/// A JSON string, borrowed unless it contains escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// One string, or an array of strings.
#[derive(Debug)]
pub(crate) enum OneOrMany<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

impl OneOrMany<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        };
        texts.iter().map(AsRef::as_ref)
    }
}

impl<'de> Deserialize<'de> for OneOrMany<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor;

        impl<'de> Visitor<'de> for OneOrManyVisitor {
            type Value = OneOrMany<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<OneOrMany<'de>, E> {
                Ok(OneOrMany::One(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany<'de>, E> {
                Ok(OneOrMany::One(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany::Many(texts))
            }
        }

        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

/// Deserializes one JSON object. The derive macro of serde alone would also accept an array of the
/// object's values.
pub(crate) fn object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(de::Error::custom("expected an object, found an array"));
    }
    serde_json::from_slice(json)
}

/// Describes a deserialization error. Omits the values that serde quotes, because these may be
/// secrets.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON is truncated".to_owned(),
        serde_json::error::Category::Syntax => "not valid JSON".to_owned(),
        _ => {
            let message = error.to_string();
            let field =
                message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            field.map_or("a value has the wrong type".to_owned(), |field| {
                format!("the field {field:?} is missing")
            })
        }
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Describes why the JSON does not deserialize into `T`. The description contains the path of the
/// field, but no value.
pub(crate) fn describe_mismatch<T: DeserializeOwned>(json: &str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => "text follows the JSON".to_owned(),
        Err(error) => match error.path().to_string().as_str() {
            "." => describe(error.inner()),
            path => format!("{}: {}", Escaped::new(path), describe(error.inner())),
        },
    }
}

/// The maximum number of members of an object.
const MAX_MEMBERS: usize = 64;
/// The number of member names that are stored without an allocation. The headers and payloads of
/// Logto's tokens have fewer members, unless there are many custom claims.
const MAX_INLINE: usize = 16;

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[derive(Default)]
    struct Names(Vec<String>);

    impl<'de> MemberVisitor<'de> for Names {
        fn visit<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
            self.0.push(name.to_owned());
            value.next_value::<IgnoredAny>().map(drop)
        }
    }

    fn names(json: &str) -> Result<Vec<String>, InvalidToken> {
        let mut names = Names::default();
        read_unique_members(json, &mut names, "part").map(|()| names.0)
    }

    #[test]
    fn an_object_is_read_member_by_member() {
        assert_eq!(names(r#"{"a":1,"\u0062":[{"a":2}]}"#).unwrap(), ["a", "b"]);
        assert_eq!(names("{}").unwrap(), [""; 0]);
    }

    #[test]
    fn duplicate_members_are_refused_even_if_one_is_escaped() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"\u0061":1,"a":1}"#,
            r#"{"\u0061":1,"\u0061":1}"#,
            r#"{"":1,"":1}"#,
        ] {
            assert_eq!(names(json), Err(InvalidToken::DuplicateMember), "{json}");
        }
    }

    #[test]
    fn object_with_more_than_64_members_is_refused_escaped_or_not() {
        for form in ["n", "\\u006e"] {
            let object = |count: usize| {
                let members: Vec<_> = (0..count).map(|i| format!("\"{form}{i}\":0")).collect();
                format!("{{{}}}", members.join(","))
            };
            assert_eq!(names(&object(64)).unwrap().len(), 64);
            assert_eq!(names(&object(65)), Err(InvalidToken::DuplicateMember));
        }
    }

    #[test]
    fn anything_but_one_object_is_malformed() {
        for json in
            ["", "[]", "[\"a\"]", "1", "\"a\"", "null", "{} {}", "{} x", "{", "{\"a\"}", "{a:1}"]
        {
            assert_eq!(names(json), Err(InvalidToken::Malformed("part")), "{json}");
        }
    }

    #[test]
    fn an_array_is_not_an_object() {
        #[derive(Debug, Deserialize)]
        struct Pair {
            #[serde(rename = "a")]
            _a: u8,
        }
        assert!(object::<Pair>(b" {\"a\":1}").is_ok());
        assert!(object::<Pair>(b" [1]").is_err());
        assert!(object::<Pair>(b"1").is_err());
    }

    #[test]
    fn descriptions_quote_no_values() {
        #[derive(Debug, Deserialize)]
        struct Application {
            #[serde(rename = "secret")]
            _secret: u64,
        }
        for (json, description) in [
            ("{\"secret\":\"hidden\"}", "a value has the wrong type (line 1, column 18)"),
            ("{}", "the field \"secret\" is missing (line 1, column 2)"),
            ("{\"secret\":", "the JSON is truncated (line 1, column 10)"),
            ("hidden", "not valid JSON (line 1, column 1)"),
        ] {
            let error = serde_json::from_str::<Application>(json).unwrap_err();
            assert_eq!(describe(&error), description);
        }
    }
}
