//! Runs oidc-provider in a Node process, which stops when the `Provider` is dropped.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Once,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use tower_logto::{
    Issuer,
    m2m::{ClientSecret, TokenClient},
};

/// One major version of oidc-provider, configured like Logto (see `server.mjs`). The `Provider`
/// stores the port and the keys of the process. If the process is killed, the next process can
/// therefore use the same port and the same keys. Logto also has the same keys after a restart,
/// because it stores them in a database.
pub(crate) struct Provider {
    pub(crate) major: u8,
    process: Option<Process>,
    /// The response of the process to the last command.
    state: Value,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Provider {
    /// Starts the process. If the npm packages are not installed, the function returns `None`.
    /// However, if the environment variable `TOWER_LOGTO_REQUIRE_INTEROP` is `1`, missing packages
    /// cause a panic.
    pub(crate) fn start(major: u8) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let mut provider = Self { major, process: None, state: Value::Null };
        provider.run("[]");
        Some(provider)
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::logto(&format!("http://127.0.0.1:{}", self.state["port"])).unwrap()
    }

    /// Returns the id of the signing key.
    pub(crate) fn kid(&self) -> String {
        self.state["kid"].as_str().unwrap().into()
    }

    /// Makes the server sign with a new key. The previous signing key stays published, but older
    /// keys are removed.
    pub(crate) fn rotate_to(&mut self, algorithm: &str) {
        self.tell(&format!("rotate {algorithm}"));
    }

    /// Returns the number of requests that the process has received for this path.
    pub(crate) fn requests_for(&mut self, path: &str) -> u64 {
        self.tell("count");
        self.state["requests"][path].as_u64().unwrap_or(0)
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn restart_with_its_keys(&mut self) {
        let keys = self.state["keys"].to_string();
        self.run(&keys);
    }

    pub(crate) fn restart_with_new_keys(&mut self) {
        self.run("[]");
    }

    /// Returns a client for the app `reader`. The secret of this app contains characters that the
    /// client must encode.
    pub(crate) fn reader(&self) -> TokenClient {
        TokenClient::new(&self.issuer(), "reader", ClientSecret::new("a+b%2Fc:d&e=f/g")).unwrap()
    }

    fn run(&mut self, keys: &str) {
        let port = self.state["port"].as_u64().unwrap_or(0);
        let mut child = Command::new(directory().join(NODE))
            .args(["server.mjs", &self.major.to_string(), &port.to_string()])
            .current_dir(directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|l| eprintln!("{l}")));
        self.process = Some(Process { child, stdin, answers });
        self.tell(keys);
    }

    fn tell(&mut self, line: &str) {
        let process = self.process.as_mut().expect("the process runs");
        let answer = tokio::task::block_in_place(|| {
            writeln!(process.stdin, "{line}").unwrap();
            process.answers.recv_timeout(TIMEOUT).expect("the server answers")
        });
        self.state = serde_json::from_str(&answer).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints a line that is visible even if the test passes.
pub(crate) fn print(line: &str) {
    let _ = writeln!(io::stderr(), "interop: {line}");
}

fn is_installed() -> bool {
    static PRINTED: Once = Once::new();
    let required_files = [NODE, "node_modules/oidc-provider-8", "node_modules/oidc-provider-9"];
    if required_files.iter().all(|path| directory().join(path).exists()) {
        return true;
    }
    let required = std::env::var("TOWER_LOGTO_REQUIRE_INTEROP").is_ok_and(|value| value == "1");
    assert!(!required, "the packages are not installed: run `npm ci` in tests/interop");
    PRINTED.call_once(|| print("skipped: run `npm ci` in tests/interop"));
    false
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

const NODE: &str = "node_modules/node/bin/node";
/// The time limit for a response of the process. The limit is long, because a slow machine needs
/// much time to generate a large RSA key.
const TIMEOUT: Duration = Duration::from_secs(120);
