//! Compiles the peer protocol without an installed protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "proto/cairn/peer/v1/peer.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    tonic_prost_build::configure()
        // Payloads are slices of the message that brought them.
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
