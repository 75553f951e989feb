//! Tests of the server behind nginx, with the documented configuration.

use crate::{
    support::{
        Fixture, TemporaryFile,
        process::{Process, free_address, installed, wait_for},
        upstream::Upstream,
    },
    through_proxy::{Setup, with_addresses},
};

const CONFIGURATION: &str = include_str!("../../docs/nginx.conf");

/// Starts nginx with the documented configuration. In the directive `proxy_pass`, appends
/// `path_of_proxy_pass` to the URL of the service.
async fn setup(path_of_proxy_pass: &str) -> Option<Setup> {
    let program = installed("/usr/sbin/nginx")?;
    let fixture = Fixture::start("nginx").await;
    let upstream = Upstream::start().await;
    let address = free_address();
    let site = with_addresses(
        CONFIGURATION,
        &[
            ("127.0.0.1:9180", fixture.address.to_string()),
            ("127.0.0.1:8080", address.to_string()),
            ("127.0.0.1:3000;", format!("{}{path_of_proxy_pass};", upstream.address)),
        ],
    );
    let folder = TemporaryFile::folder();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", folder.path()));
    let text =
        format!("events {{}}\nhttp {{\n{}\naccess_log off;\n{site}\n}}\n", temporary.join("\n"));
    let file = folder.0.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let globals =
        format!("daemon off; worker_processes 1; pid {}/pid; error_log stderr;", folder.path());
    let arguments = ["-p", folder.path(), "-c", file.to_str().unwrap(), "-g", &globals];
    let proxy = Process::start(program, &arguments, &[]);
    wait_for(address, &proxy).await;
    Some(Setup { fixture, upstream, address, proxy, _files: folder })
}

#[tokio::test]
async fn ambiguous_targets_never_reach_the_service() {
    let Some(setup) = setup("").await else { return };
    setup.ambiguous_targets_never_reach_the_service().await;
    setup.permitted_targets_arrive_unchanged().await;
}

/// If `proxy_pass` has a path, nginx sends the normalized path of the request to the service.
#[tokio::test]
async fn ambiguous_targets_never_reach_the_service_if_nginx_normalizes() {
    let Some(setup) = setup("/").await else { return };
    setup.ambiguous_targets_never_reach_the_service().await;
}

#[tokio::test]
async fn the_client_cannot_forge_headers() {
    let Some(setup) = setup("").await else { return };
    setup.the_client_cannot_set_or_remove_the_identity().await;
    setup.the_client_cannot_describe_another_request().await;
}

#[tokio::test]
async fn refusals_keep_the_status_the_challenge_and_retry_after() {
    let Some(setup) = setup("").await else { return };
    setup.refusals_keep_status_challenge_and_retry_after().await;
    setup.a_stopped_server_permits_nothing().await;
}
