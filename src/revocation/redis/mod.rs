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
/// All instances of all services must use the same Redis server and the same prefix. Instances that
/// store rules, for example from webhooks, need write access. For the other instances, read access
/// is enough. If an instance has only read access, call [`read_only`](Self::read_only) on its
/// store. Spawn [`Revocations::run`](super::Revocations::run) in each instance.
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
/// # While Redis is unavailable
/// Requests do not wait for Redis, with one exception: until the rules are loaded for the first
/// time, a request waits for up to 1 s. The rules that an instance already knows still apply. The
/// status and the log show that the instance is disconnected. The instance reconnects
/// automatically. With [`strict`](Self::strict), you set a time limit. If Redis is unavailable for
/// longer than this limit, the instance refuses every token with 503.
///
/// If Redis loses a rule, each instance that already knows this rule still applies it. Instances
/// with write access write the rule to Redis again.
///
/// # Settings
/// Give every instance the same [`max_rules`](super::RevocationsBuilder::max_rules) and
/// [`longest_token_life`](super::RevocationsBuilder::longest_token_life). Whenever an instance
/// writes rules, it also removes old cut-offs from Redis. The instance uses only its own settings
/// to decide which cut-offs to remove.
///
/// # TLS
/// The connection uses rustls and the root certificates of the operating system. If the program
/// enables two cryptography providers of rustls, for example aws-lc-rs and ring, install one of
/// them as the default provider of the process. If such a program has no default provider, rustls
/// panics.
///
/// # Keys in Redis
/// The rules are in the sorted sets `{PREFIX}:blocks` and `{PREFIX}:cutoffs`. The stream
/// `{PREFIX}:news` contains the latest 100,000 changes, and `{PREFIX}:number` is the number of the
/// latest change. The eviction policy must be `noeviction` or start with `volatile-`.
///
/// In these names, `PREFIX` stands for your prefix, and the braces are part of the name. The braces
/// put all keys into one hash slot of a Redis cluster. However, each instance of your service
/// connects to only one Redis server. If you have a cluster, either connect through a proxy or use
/// a separate Redis server for the rules.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    keys: Keys,
    strict_after: Option<Duration>,
    is_read_only: bool,
}

/// The names of the keys in Redis.
#[derive(Debug, Clone)]
struct Keys {
    blocks: String,
    cut_offs: String,
    news: String,
    number: String,
}

impl RedisStore {
    /// Creates a store that uses the Redis server at this URL. The URL has the form
    /// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://…` for TLS. Use one prefix
    /// per Logto tenant.
    ///
    /// # Errors
    /// Returns an error if the URL or the prefix is invalid. The prefix must not be empty, and must
    /// contain only printable ASCII characters, without spaces and braces.
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

    /// Refuses every token with 503 in these cases:
    /// - Redis has been unavailable for longer than `after`. If `after` is shorter than 1 s, the
    ///   limit is 1 s.
    /// - The rules have not been loaded yet.
    /// - The future of [`Revocations::run`](super::Revocations::run) was dropped.
    pub fn strict(mut self, after: Duration) -> Self {
        self.strict_after = Some(after.max(Duration::from_secs(1)));
        self
    }

    /// Makes the store read-only. If you then call
    /// [`Revocations::store`](super::Revocations::store), it applies the rules in this process
    /// only, and returns an error.
    pub const fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }
}

/// Shows the address, but neither the user nor the password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.client.get_connection_info().addr().to_string())
            .field("news", &self.keys.news)
            .finish_non_exhaustive()
    }
}
