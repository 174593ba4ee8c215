//! Cairn's one binary.
mod lines;
mod settings;
fn main() {}
