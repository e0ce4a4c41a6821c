//! `ringtide bench net`: how fast content moves between two hosts, with nothing prepared on either: it is made up in memory,
//! given, fetched, verified and thrown away.
//!
//! - `server`, `client`: the two ends
//! - `protocol`: what they say to each other
//! - `ends`: the engines that give and fetch
//! - `stall`: when either end gives up
//! - `finding`: what came out, as a report

mod client;
mod ends;
mod finding;
mod protocol;
mod server;
mod stall;

pub(crate) use client::{Client, Extent};
pub(crate) use ends::Running;
pub(crate) use protocol::MAX_CONNECTIONS;
pub(crate) use server::Server;

/// Where a server waits for clients, by default. Data flows at the ports behind it.
pub(crate) const PORT: u16 = 6900;
