//! Generates the client and the server from `shop.proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=shop.proto");
    tonic_prost_build::compile_fds(protox::compile(["shop.proto"], ["."])?)?;
    Ok(())
}
