//! Shares rules between instances over Redis 7.

mod connection;
mod follow;
mod link;

use std::{fmt, time::Duration};

use redis::Client;

pub(super) use follow::run;
pub(super) use link::RedisLink;

use crate::{error::ConfigError, escape::escaped};

/// Shares the rules of a set of [`Revocations`](super::Revocations) over Redis 7 or later.
///
/// Every instance of every service uses the same Redis and the same prefix. Instances that receive
/// webhooks or revoke by hand need write access. The others need read access only, see
/// [`read_only`](Self::read_only). Spawn [`Revocations::run`](super::Revocations::run) in each.
///
/// ```
/// use tower_logto::{Issuer, revocation::{RedisStore, Revocations}};
///
/// let issuer = Issuer::logto("https://tenant.logto.app")?;
/// let store = RedisStore::new("redis://127.0.0.1:6379", "logto:tenant")?;
/// let revocations = Revocations::builder([&issuer]).redis(store).build()?;
/// # let spawn = async move {
/// tokio::spawn(revocations.run());
/// # };
/// # Ok::<(), tower_logto::error::ConfigError>(())
/// ```
///
/// # While Redis is away
/// Requests never wait for Redis. The rules that an instance knows apply, the status and the log say
/// that it is disconnected, and it connects again by itself. With [`strict`](Self::strict), every
/// token is refused with 503 after a time.
///
/// An instance never forgets a rule because Redis lost it. Instances with write access write such
/// rules back.
///
/// # Settings
/// Give every instance the same [`max_rules`](super::RevocationsBuilder::max_rules) and
/// [`longest_token_life`](super::RevocationsBuilder::longest_token_life). A writer removes the
/// cut-offs from Redis that its own settings allow it to drop.
///
/// # TLS
/// The connection uses rustls and the root certificates of the operating system. If the program
/// enables the features of two cryptography providers of rustls, for example aws-lc-rs and ring, then
/// install one as the default of the process first. Without it, rustls panics.
///
/// # Keys
/// `{PREFIX}:blocks` and `{PREFIX}:cutoffs` (sorted sets), `{PREFIX}:news` (a stream with the latest
/// 100,000 changes) and `{PREFIX}:number`. The braces put them into one slot of a cluster. The
/// connection itself is to one server, so a cluster needs a proxy, or a server for this purpose.
/// The eviction policy must be `noeviction` or one of `volatile-…`.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    keys: Keys,
    strict_after: Option<Duration>,
    is_read_only: bool,
}

/// The names of the keys.
#[derive(Debug, Clone)]
struct Keys {
    blocks: String,
    cut_offs: String,
    news: String,
    number: String,
}

impl RedisStore {
    /// Uses the server at this URL: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://`
    /// for TLS. The prefix is that of the tenant.
    ///
    /// # Errors
    /// If the URL is invalid, or if the prefix is empty or has characters other than printable ASCII
    /// without spaces and braces.
    pub fn new(url: &str, prefix: &str) -> Result<Self, ConfigError> {
        let client = Client::open(url).map_err(|error| {
            let why = escaped(&error.to_string()).into_string();
            ConfigError::new("redis", format!("the URL is invalid: {why}"))
        })?;
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'{' && byte != b'}';
        if prefix.is_empty() || !prefix.bytes().all(is_allowed) {
            let advice = "expected a prefix of printable ASCII without spaces and braces, for \
                          example logto:tenant";
            return Err(ConfigError::new("redis", advice));
        }
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        let keys = Keys {
            blocks: key("blocks"),
            cut_offs: key("cutoffs"),
            news: key("news"),
            number: key("number"),
        };
        Ok(Self { client, keys, strict_after: None, is_read_only: false })
    }

    /// Refuses every token with 503 if Redis was away for this time, before the rules are loaded for
    /// the first time, and after the future of [`Revocations::run`](super::Revocations::run) was
    /// dropped. The minimum is 1 s.
    pub fn strict(mut self, after: Duration) -> Self {
        self.strict_after = Some(after.max(Duration::from_secs(1)));
        self
    }

    /// Writes nothing to Redis. To store a rule is then an error.
    pub const fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }
}

/// Shows neither the user nor the password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.client.get_connection_info().addr().to_string())
            .field("news", &self.keys.news)
            .finish_non_exhaustive()
    }
}
