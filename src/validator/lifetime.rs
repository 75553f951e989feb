//! Checks the lifetime of a token: `exp` and `nbf` against the clock.

use std::time::Duration;

use crate::error::InvalidToken;

/// `nbf` and `exp` in seconds since the Unix epoch, and the issuer's clock tolerance in seconds. If
/// the token has no `nbf`, `not_before` is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) not_before: u64,
    pub(crate) expires_at: u64,
    pub(crate) tolerance: u64,
}

impl Lifetime {
    /// Checks `exp` and `nbf` (RFC 7519 §4.1.4, §4.1.5) against the time since the Unix epoch.
    pub(crate) fn check(self, now: Duration) -> Result<(), InvalidToken> {
        let now = now.as_secs();
        if now >= self.expires_at + self.tolerance {
            return Err(InvalidToken::Expired { ago: Duration::from_secs(now - self.expires_at) });
        }
        if now < self.not_before.saturating_sub(self.tolerance) {
            let wait = Duration::from_secs(self.not_before - now);
            return Err(InvalidToken::NotYetValid { wait });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_from_nbf_to_exp_with_the_tolerance() {
        let lifetime = Lifetime { not_before: 1_000, expires_at: 2_000, tolerance: 30 };
        let seconds = Duration::from_secs;
        for (now, expected) in [
            (969, Err(InvalidToken::NotYetValid { wait: seconds(31) })),
            (970, Ok(())),
            (2_029, Ok(())),
            (2_030, Err(InvalidToken::Expired { ago: seconds(30) })),
        ] {
            assert_eq!(lifetime.check(seconds(now)), expected, "at {now} s");
        }
    }
}
