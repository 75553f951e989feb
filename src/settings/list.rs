//! Parses lists, algorithms and log levels in configuration files and environment variables.

use serde::{Deserialize, Deserializer, de::Error};
use tracing::Level;

use crate::{algorithm::Algorithm, escape::escaped};

/// Deserializes a string, or a list of strings.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }

    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

/// Deserializes a list of algorithms.
pub(super) fn algorithms<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<Algorithm>>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(from)?;
    let parse = |names: Vec<String>| names.iter().map(|name| parse_algorithm(name)).collect();
    names.map(parse).transpose().map_err(D::Error::custom)
}

/// Deserializes a log level.
pub(super) fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Level>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.map(|name| parse_level(&name)).transpose().map_err(D::Error::custom)
}

/// Parses algorithms that are separated by spaces.
pub(super) fn parse_algorithms(text: &str) -> Result<Vec<Algorithm>, String> {
    text.split_whitespace().map(parse_algorithm).collect()
}

/// Parses the name of a log level.
pub(super) fn parse_level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{}\" is not a log level: expected error, warn, info, debug or trace",
            escaped(text)
        )
    })
}

fn parse_algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        format!("\"{}\" is not an accepted algorithm: expected {names}", escaped(name))
    })
}
