//! The claims of a validated token: one copy of the payload, and the position of each claim in it.

use std::ops::Range;

use crate::{scope::TokenKind, validator::lifetime::Lifetime};

/// The claims of a verified token: one copy of the payload, and spans that point into it.
#[derive(Debug)]
pub(crate) struct TokenClaims {
    /// The payload's JSON, followed by the unescaped text of the claims that contained escapes.
    pub(crate) text: Box<str>,
    pub(crate) payload: Span,
    pub(crate) issuer: Span,
    pub(crate) subject: Span,
    pub(crate) audiences: Audiences,
    pub(crate) client_id: Option<Span>,
    pub(crate) organization_id: Option<Span>,
    pub(crate) scope: Option<Span>,
    pub(crate) jwt_id: Option<Span>,
    pub(crate) kind: TokenKind,
    /// Seconds since the Unix epoch.
    pub(crate) issued_at: Option<u64>,
    pub(crate) lifetime: Lifetime,
}

/// The audiences in `aud`. Logto always writes a single string, but RFC 7519 §4.1.3 also allows an
/// array of strings.
#[derive(Debug)]
pub(crate) enum Audiences {
    One(Span),
    Several(Box<[Span]>),
}

/// A byte range in the text of [`TokenClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Creates a span. Offsets above 4 GiB are clamped. Such offsets do not occur, because tokens
    /// are far shorter than 4 GiB.
    pub(crate) fn new(range: Range<usize>) -> Self {
        let offset = |position| u32::try_from(position).unwrap_or(u32::MAX);
        Self { start: offset(range.start), end: offset(range.end) }
    }

    const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl TokenClaims {
    /// Returns the payload's JSON exactly as received.
    pub(crate) fn json(&self) -> &str {
        self.get(self.payload)
    }

    pub(crate) fn get(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }
}
