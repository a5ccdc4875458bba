//! Hosts with a network of their own on one machine: for the small farm of `millrace farm up`, and for tests. Decides which subnet is
//! free, makes the hosts, cuts them from each other, and leaves nothing behind.

mod network;
mod subnet;

pub use network::{Network, NetworkError, OUTSIDE};
