//! The option `--demo`: suspends and reactivates a user while two instances of the API serve
//! requests.

use std::{error::Error, time::Duration};

use reqwest::Client;
use tokio::time::{Instant, sleep};
use tower_logto::{revocation::RedisStore, testing::TestIssuer};

use crate::{RESOURCE, api, listen, receiver, redis_process::RedisProcess, shared_rules};

/// The URLs of both API instances, and an HTTP client to call them.
struct Instances {
    urls: [String; 2],
    http: Client,
}

pub(crate) async fn run(redis: &RedisProcess) -> Result<(), Box<dyn Error>> {
    let issuer = TestIssuer::start().await?;
    let mut urls = [String::new(), String::new()];
    for url in &mut urls {
        let revocations = shared_rules(&issuer.issuer(), redis, RedisStore::read_only)?;
        *url = listen(0, api(&issuer.trusted(RESOURCE), &revocations)?).await?;
    }
    let instances = Instances { urls, http: Client::builder().no_proxy().build()? };
    let revocations = shared_rules(&issuer.issuer(), redis, |store| store)?;
    // The receiver needs the signing key of the webhooks, and the webhooks need the URL of the
    // receiver. The key is therefore created first.
    let key = issuer.webhooks("").signing_key().to_owned();
    let url = listen(0, receiver(&revocations, &key)?).await?;
    let webhooks = issuer.webhooks(format!("{url}/webhooks/logto")).with_signing_key(key);
    let token = |user: &str| {
        issuer.token().audience(RESOURCE).subject(user).scopes(["read:products"]).build()
    };
    let (alice, bob) = (token("alice"), token("bob"));

    instances.expect("alice's token", &alice, 200).await?;
    instances.expect("bob's token", &bob, 200).await?;

    let status = webhooks.suspend("alice").send().await;
    println!("Logto suspends alice, and the receiver responds {status:?}.");
    let delay = instances.until_refused(&alice).await?;
    println!("Both instances refuse alice's token after {} ms.", delay.as_millis());
    if delay > Duration::from_secs(1) {
        return Err("the delay is longer than 1 s".into());
    }
    instances.expect("a token that alice gets after the suspension", &token("alice"), 401).await?;
    instances.expect("bob's token", &bob, 200).await?;

    let status = webhooks.reactivate("alice").send().await;
    println!("Logto reactivates alice, and the receiver responds {status:?}.");
    instances.expect("alice's first token", &alice, 401).await?;
    let started = Instant::now();
    // A new token is accepted only if it was issued more than 2 s after the reactivation. These 2 s
    // are the default margin.
    while instances.statuses(&token("alice")).await? != [200, 200] {
        if started.elapsed() > Duration::from_secs(10) {
            return Err("alice's new tokens are still refused".into());
        }
        sleep(Duration::from_millis(200)).await;
    }
    println!("A new token of alice is accepted after {} ms.", started.elapsed().as_millis());
    println!("Every step had the expected result.");
    Ok(())
}

impl Instances {
    async fn expect(&self, what: &str, token: &str, expected: u16) -> Result<(), Box<dyn Error>> {
        let statuses = self.statuses(token).await?;
        println!("{what}: {statuses:?}");
        if statuses != [expected, expected] {
            return Err(format!("{what}: expected {expected} from both instances").into());
        }
        Ok(())
    }

    /// Waits until both instances refuse the token, and returns the time that this took.
    async fn until_refused(&self, token: &str) -> Result<Duration, Box<dyn Error>> {
        let started = Instant::now();
        while self.statuses(token).await? != [401, 401] {
            if started.elapsed() > Duration::from_secs(10) {
                return Err("the token is still accepted after 10 s".into());
            }
        }
        Ok(started.elapsed())
    }

    async fn statuses(&self, token: &str) -> Result<[u16; 2], reqwest::Error> {
        let [first, second] = &self.urls;
        let send = async |url: &str| {
            let response = self.http.get(url).bearer_auth(token).send().await?;
            Ok(response.status().as_u16())
        };
        Ok([send(first).await?, send(second).await?])
    }
}
