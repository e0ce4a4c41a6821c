//! `ringtide bench`: measurements that need nothing but this program.
//!
//! - `loopback`, `net`, `disk`, `swarm`, `hash`: one file for each
//! - `report`, `present`: what a bench found out, and how it reaches whoever asked
//! - `meter`, `threads`, `side`: what a process measures of itself while it gives or fetches
//! - `calibrate`, `link`, `bound`, `verdict`: what could be, and what stands in the way
//! - `child`, `image`, `offer`, `place`, `machine`: processes, content and its torrents, where it lies, and on what

mod bound;
mod calibrate;
mod child;
mod disk;
mod hash;
mod image;
mod link;
mod loopback;
mod machine;
mod meter;
mod net;
mod offer;
mod place;
mod present;
mod report;
mod side;
mod swarm;
mod table;
mod threads;
mod verdict;

use ringtide_proto::limits::MAX_PIECES;

use crate::exit::{Exit, Failure};
pub(crate) use child::follow;
pub(crate) use disk::Disk;
pub(crate) use hash::Hash;
pub(crate) use loopback::Loopback;
pub(crate) use meter::{Meter, Role};
pub(crate) use net::{Client, Extent, MAX_CONNECTIONS, PORT, Running, Server};
pub(crate) use present::Present;
pub(crate) use side::{Host, Side};
pub(crate) use swarm::{MAX_LEECHES, Swarm};

/// Bytes of the largest content that there are pieces enough for.
fn most_content(piece_length: u32) -> u64 {
    u64::from(MAX_PIECES) * u64::from(piece_length)
}

fn stopped(exit: Exit) -> Failure {
    Failure::new(exit, "stopped; the files are removed")
}
