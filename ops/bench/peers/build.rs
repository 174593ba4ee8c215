//! Generates a client of etcd's API and the echo service from `proto/`, with a compiler written in Rust: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Of etcd only the client's side is needed.
    for (file, with_server) in [("etcd.proto", false), ("echo.proto", true)] {
        println!("cargo:rerun-if-changed=proto/{file}");
        let descriptors = protox::compile([file], ["proto"])?;
        tonic_prost_build::configure().bytes(".").build_server(with_server).compile_fds(descriptors)?;
    }
    Ok(())
}
