//! Helpers of the tests: the program as a child process, a service that records requests, and raw
//! HTTP.

pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod upstream;

use std::{fs, net::SocketAddr, path::PathBuf, sync::atomic::AtomicU32, sync::atomic::Ordering};

use tower_logto::testing::{TestIssuer, TokenBuilder};

use self::process::Process;

pub(crate) const RESOURCE: &str = "https://shopping.api";

/// The rules of most tests. A request for `/admin` requires the scope `admin`.
pub(crate) const RULES: &str = r#"
[[rule]]
methods = ["GET"]
path = "/public"
public = true

[[rule]]
methods = ["OPTIONS"]
path = "/products"
public = true

[[rule]]
methods = ["GET"]
path = "/admin"
scopes = ["admin"]

[[rule]]
methods = ["GET", "POST"]
path = "/products/{*rest}"
scopes = ["read:products"]

[[rule]]
methods = ["GET"]
path = "/products"
any_scope = ["read:products", "write:products"]

[[rule]]
methods = ["GET"]
path = "/orgs/{org_id}/members"
scopes = ["read:members"]
organization = "{org_id}"

[[rule]]
methods = ["GET"]
path = "/my-organization"
scopes = []
organization = "any"

[[rule]]
methods = ["GET"]
path = "/{*rest}"
scopes = ["browse"]
"#;

/// The running program and its issuer.
pub(crate) struct Fixture {
    pub(crate) logto: TestIssuer,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    file: TemporaryFile,
}

impl Fixture {
    pub(crate) async fn start(proxy: &str) -> Self {
        Self::start_with(&format!("proxy = \"{proxy}\"")).await
    }

    /// Starts the program with these lines at the top of the configuration file.
    pub(crate) async fn start_with(top: &str) -> Self {
        Self::start_file(|logto| config(logto, top, RULES)).await
    }

    /// Starts the program with a configuration file. The closure `text` returns the contents of the
    /// file.
    pub(crate) async fn start_file(text: impl Fn(&TestIssuer) -> String) -> Self {
        let logto = TestIssuer::start().await.unwrap();
        let file = TemporaryFile::new("toml", &text(&logto));
        let arguments = ["--config", file.path()];
        let process = Process::start(env!("CARGO_BIN_EXE_logto-forward-auth"), &arguments, &[]);
        let line = process.wait_for_line("listening").await;
        let address = line.rsplit("address=").next().unwrap().trim().parse().unwrap();
        Self { logto, process, address, file }
    }

    /// Writes new rules into the file, but does not signal the program to read them.
    pub(crate) fn write(&self, rules: &str) {
        let text = config(&self.logto, "proxy = \"nginx\"", rules);
        fs::write(&self.file.0, text).unwrap();
    }

    pub(crate) fn user(&self) -> TokenBuilder {
        self.logto.token().audience(RESOURCE).subject("alice").client_id("app")
    }

    /// Returns a token with the scopes `read:products` and `browse`, but without `admin`.
    pub(crate) fn token(&self) -> String {
        self.user().scopes(["read:products", "browse"]).build()
    }
}

pub(crate) fn config(logto: &TestIssuer, top: &str, rules: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n{top}\n[logto]\nendpoint = \"{}\"\n\
         resource = [\"{RESOURCE}\"]\n{rules}",
        logto.endpoint()
    )
}

/// A temporary file or folder. It is deleted at the end of the test.
pub(crate) struct TemporaryFile(pub(crate) PathBuf);

impl TemporaryFile {
    pub(crate) fn new(extension: &str, text: &str) -> Self {
        let path = Self::new_path(extension);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn folder() -> Self {
        let path = Self::new_path("d");
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn new_path(extension: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("logto-forward-auth-{}-{number}.{extension}", std::process::id());
        std::env::temp_dir().join(name)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}
