# `just check` only reads, `just fix` rewrites.

check:
    .ci/run

fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

demo:
    cargo run --release -- demo
