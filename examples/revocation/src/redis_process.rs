//! The Redis server at `REDIS_URL`, or a `redis-server` that this program starts and stops.

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(crate) struct RedisProcess {
    url: String,
    process: Option<Child>,
}

impl RedisProcess {
    pub(crate) async fn from_env() -> io::Result<Self> {
        if let Ok(url) = env::var("REDIS_URL") {
            return Ok(Self { url, process: None });
        }
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port().to_string();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                let advice = "redis-server cannot be started: install it, or set REDIS_URL";
                io::Error::new(error.kind(), format!("{advice}: {error}"))
            })?;
        let started = Self { url: format!("redis://{address}"), process: Some(process) };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(started);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "redis-server does not listen"))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
