//! Tests of the server behind Caddy, with the documented configuration.

use crate::{
    support::{
        Fixture, TemporaryFile,
        process::{Process, free_address, installed, wait_for},
        upstream::Upstream,
    },
    through_proxy::{Setup, with_addresses},
};

const CONFIGURATION: &str = include_str!("../../docs/Caddyfile");

async fn setup() -> Option<Setup> {
    let program = installed("/usr/bin/caddy")?;
    let fixture = Fixture::start("caddy").await;
    let upstream = Upstream::start().await;
    let address = free_address();
    let site = with_addresses(
        CONFIGURATION,
        &[
            ("127.0.0.1:9180", fixture.address.to_string()),
            ("\n:8080 {\n", format!("\n:{} {{\nbind 127.0.0.1\n", address.port())),
            ("127.0.0.1:3000", upstream.address.to_string()),
        ],
    );
    let folder = TemporaryFile::folder();
    let file = folder.0.join("Caddyfile");
    std::fs::write(&file, format!("{{\nadmin off\n}}\n{site}")).unwrap();
    let arguments = ["run", "--adapter", "caddyfile", "--config", file.to_str().unwrap()];
    let home = ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, folder.path()));
    let proxy = Process::start(program, &arguments, &home);
    wait_for(address, &proxy).await;
    Some(Setup { fixture, upstream, address, proxy, _files: folder })
}

#[tokio::test]
async fn ambiguous_targets_never_reach_the_service() {
    let Some(setup) = setup().await else { return };
    setup.ambiguous_targets_never_reach_the_service().await;
    setup.permitted_targets_arrive_unchanged().await;
}

#[tokio::test]
async fn the_client_cannot_forge_headers() {
    let Some(setup) = setup().await else { return };
    setup.the_client_cannot_set_or_remove_the_identity().await;
    setup.the_client_cannot_describe_another_request().await;
}

#[tokio::test]
async fn refusals_keep_the_status_the_challenge_and_retry_after() {
    let Some(setup) = setup().await else { return };
    setup.refusals_keep_status_challenge_and_retry_after().await;
    setup.a_stopped_server_permits_nothing().await;
}
