//! Generates the wire types and services from `proto/`, with a compiler written in Rust: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "journal", "snapshot", "cluster"].map(|name| format!("cairn/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::CountingCodec")
        // Written by hand: replays are made of it.
        .extern_path(".cairn.v1.StoredEvent", "crate::stored_event::StoredEvent")
        .compile_fds(descriptors)?;
    Ok(())
}
