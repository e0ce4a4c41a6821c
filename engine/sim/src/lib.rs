//! A seeded simulator of swarms, over the same state machines as the engine.
//!
//! A [`Scenario`] says who is there: honest nodes of 1 to 16 shards, and villains. [`run`] plays it in virtual
//! time: channels between shards, links, disks and the clock are simulated, each with delays that the seed decides,
//! and after each step what must always hold is checked. The same scenario gives the same [`Outcome`], to the last
//! event. The machines are driven exactly as `ringtide_proto::torrent` says; blocks carry a marker in place of their
//! bytes, so that a poisoned block is seen wherever it goes.

#![forbid(unsafe_code)]

mod checker;
mod claims;
mod codec;
mod connect;
mod disk;
mod drive;
mod link;
mod node;
mod outcome;
mod queue;
mod scenario;
mod swarms;
mod table;
#[cfg(test)]
mod tampering;
mod trace;
mod villain;
mod wire;
mod world;

pub use outcome::{Failure, Outcome, Progress, bound};
pub use scenario::{Departure, Disk, HostSpec, RACKS, Role, Scenario};
pub use swarms::{ABLATIONS, Crowd, Mixed, NAMED};
pub use table::{HEADER, row};
pub use world::{Watcher, run, trace, watch};
