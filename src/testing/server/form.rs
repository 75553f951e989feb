//! Decodes the `application/x-www-form-urlencoded` text that the test server receives.

/// The parameters of a form, without parameters whose value is empty.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }
}

/// Decodes a single value. Returns `None` if a `%` does not start an escape, or if the decoded
/// bytes are not UTF-8. In contrast, [`Form::parse`] keeps a `%` that does not start an escape.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_dropped() {
        let form = Form::parse(b"scope=read%3Aproducts+write&resource=&resource=a&x=%2&y");
        assert_eq!(form.one("scope"), Some("read:products write"));
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["a"]);
        assert_eq!((form.one("x"), form.one("y")), (Some("%2"), None));
    }

    #[test]
    fn invalid_percent_encoding_is_refused() {
        assert_eq!(decode("p%25%3a%C3%A9+"), Some("p%:é ".into()));
        for text in ["%", "%4", "%zz", "%C3"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
