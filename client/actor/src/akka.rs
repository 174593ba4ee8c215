//! What members of Akka's persistence, classic and typed, of Akka.NET's and of their plugins are called here.
//!
#![doc = include_str!("akka.md")]
