//! Whole-program tests, real clients at the other end: what those tests share.
//!
//! A test builds [`content`] and a [`torrent`] of it, lays a [`net`] of
//! its own, starts [`rivals`], [`hostile`] peers and [`ringtide`] in it,
//! [`wait`]s, and compares what arrived byte for byte.
//!
//! Nothing here depends on how fast a machine is: a deadline only tells a hang from slowness. Every process that a test
//! starts is ended by its id when its guard is dropped, and by the kernel when the test itself is killed. Dialogue with
//! the world outside the machine is impossible from within a [`net::Host`]: it has no route.
//!
//! The torrent writer is deliberately not ringtide's own: two programs that share a mistake would agree.

pub mod content;
pub mod hostile;
pub mod http;
pub mod net;
pub mod process;
pub mod ringtide;
pub mod rivals;
pub mod scene;
pub mod torrent;
pub mod wait;
