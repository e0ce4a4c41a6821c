//! HTTP trackers, both sides, without I/O: what an announce says and what comes back (BEP 3, 7, 12, 23, 24, 31),
//! when to announce to whom ([`Announcer`]), and the core of a tracker of our own ([`TrackerServer`], BEP 48).
//!
//! Owns text and schedule. Does not own connections, statistics or what becomes of the peers.

mod announce;
mod announcer;
mod error;
mod query;
mod response;
mod server;

pub use announce::{AnnounceEvent, AnnounceRequest};
pub use announcer::{Announce, AnnounceAction, AnnounceId, Announcer, AnnouncerInput, Transfer};
pub use error::{Retry, TrackerError};
pub use response::AnnounceResponse;
pub use server::{Asker, ServerConfig, TrackerServer};
