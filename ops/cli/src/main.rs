//! Cairn's one binary.
mod exit;
mod import;
mod lines;
mod settings;
fn main() {}
