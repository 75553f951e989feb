//! Reads settings from environment variables, and from the files that these variables name.

use std::{ffi::OsString, fmt::Display, fs::File, io::Read as _, str::FromStr};

use crate::{error::ConfigError, escape::escaped};

/// A source of environment variables.
pub(super) struct Variables<F>(pub(super) F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    /// Reads the variable `{name}`, or the file whose path is the value of the variable
    /// `{name}_FILE`. An empty variable counts as not set.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let name_of_file = format!("{name}_FILE");
        match (self.value(name, name)?, self.value(name, &name_of_file)?) {
            (Some(_), Some(_)) => {
                let advice = format!("{name} and {name_of_file} are both set: remove one of them");
                Err(ConfigError::new(name, advice))
            }
            (value, None) => Ok(value),
            (None, Some(file)) => match read_file(&file) {
                Ok(value) => Ok(Some(value)),
                Err(problem) => {
                    Err(ConfigError::new(name, problem).written_as(name_of_file.into()))
                }
            },
        }
    }

    /// Reads words that are separated by spaces.
    pub(super) fn words(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.split_whitespace().map(Into::into).collect())
    }

    /// Reads `1`, `true`, `0` or `false`.
    pub(super) fn switch(&self, name: &'static str) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text {
            "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            other => Err(format!("expected true or false, found \"{}\"", escaped(other))),
        };
        Ok(self.parsed(name, parse)?.unwrap_or_default())
    }

    /// Reads a whole number.
    pub(super) fn number<T: FromStr<Err: Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        self.parsed(name, |text| {
            text.parse().map_err(|error| {
                format!("expected a whole number, found \"{}\": {error}", escaped(text))
            })
        })
    }

    /// Reads a value with a parser.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let text = self.text(name)?;
        let parsed = text.map(|text| parse(&text)).transpose();
        parsed.map_err(|problem| ConfigError::new(name, problem))
    }

    fn value(&self, setting: &'static str, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        value.into_string().map(Some).map_err(|_| {
            ConfigError::new(setting, "the value is not UTF-8").written_as(name.into())
        })
    }
}

/// Reads a small file, and removes the line ending at the end of the file.
///
/// # Errors
/// Returns a description of the problem, without any content of the file.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let name = escaped(path);
    let cannot_read =
        |error: std::io::Error| format!("the file \"{name}\" cannot be read: {error}");
    let mut text = String::new();
    let file = File::open(path).map_err(cannot_read)?;
    file.take(MAX_FILE_SIZE + 1).read_to_string(&mut text).map_err(cannot_read)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(format!("the file \"{name}\" has more than {MAX_FILE_SIZE} bytes"));
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(format!("the file \"{name}\" is empty"));
    }
    Ok(value.into())
}

const MAX_FILE_SIZE: u64 = 64 * 1024;
