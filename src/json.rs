//! JSON objects of strangers: every member once, strings borrowed where they can be.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::error::InvalidToken;

/// An object's members, one by one.
pub(crate) trait Members<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error>;
}

/// Reads exactly one JSON object (serde's derive would also take an array), every member once.
pub(crate) fn read_object<'de>(
    json: &'de str,
    members: &mut impl Members<'de>,
    complaint: &'static str,
) -> Result<(), InvalidToken> {
    struct Object<'m, M> {
        members: &'m mut M,
        twice: &'m mut bool,
    }

    impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = Seen::new();
            while let Some(name) = map.next_key()? {
                if !seen.is_new(&name) {
                    *self.twice = true;
                    return Err(de::Error::custom("a member twice"));
                }
                self.members.member(&name.0, &mut map)?;
            }
            Ok(())
        }
    }

    let mut twice = false;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let object = Object { members, twice: &mut twice };
    let outcome = deserializer.deserialize_map(object).and_then(|()| deserializer.end());
    match outcome {
        Ok(()) => Ok(()),
        Err(_) if twice => Err(InvalidToken::DuplicateMember),
        Err(_) => Err(InvalidToken::Malformed(complaint)),
    }
}

/// The names of an object so far: a bounded list that allocates only for names with escapes.
struct Seen<'de> {
    names: [&'de str; MAX_MEMBERS],
    escaped: Vec<String>,
    count: usize,
}

impl<'de> Seen<'de> {
    const fn new() -> Self {
        Self { names: [""; MAX_MEMBERS], escaped: Vec::new(), count: 0 }
    }

    /// Remembers a name; false if it was there, or the list is full.
    fn is_new(&mut self, Text(name): &Text<'de>) -> bool {
        let (names, free) = self.names.split_at_mut(self.count);
        // The first byte settles most comparisons without a call.
        let is_name = |known: &&str| {
            known.as_bytes().first() == name.as_bytes().first() && *known == name.as_ref()
        };
        if names.iter().any(is_name) || self.escaped.iter().any(|known| known == name) {
            return false;
        }
        let is_full = self.count + self.escaped.len() == MAX_MEMBERS;
        let Some(slot) = free.first_mut().filter(|_| !is_full) else { return false };
        match name {
            Cow::Borrowed(name) => {
                *slot = name;
                self.count += 1;
            }
            Cow::Owned(name) => self.escaped.push(name.clone()),
        }
        true
    }
}

/// A JSON string, borrowed unless it holds escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// What serde met, without the values that it likes to quote: they may be secrets.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it breaks off".to_owned(),
        serde_json::error::Category::Syntax => "it is no JSON".to_owned(),
        _ => {
            let message = error.to_string();
            let field =
                message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            field
                .map_or("a value of another type".to_owned(), |field| format!("no field {field:?}"))
        }
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// One string, or an array of strings.
#[derive(Debug)]
pub(crate) enum Strings<'a> {
    One(Cow<'a, str>),
    Several(Vec<Cow<'a, str>>),
}

impl Strings<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        };
        texts.iter().map(AsRef::as_ref)
    }
}

impl<'de> Deserialize<'de> for Strings<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;

        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Strings<'de>, E> {
                Ok(Strings::One(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Strings<'de>, E> {
                Ok(Strings::One(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Strings::Several(texts))
            }
        }

        deserializer.deserialize_any(StringsVisitor)
    }
}

const MAX_MEMBERS: usize = 64;
