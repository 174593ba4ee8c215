//! What members of Akka's persistence, classic and typed, of Akka.NET's and of their plugins are called here.
//!
//! How they are used, and what they promise here, tells the [`book`](crate::book).
//!
#![doc = include_str!("akka.md")]
