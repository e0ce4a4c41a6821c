//! Whole-program tests, real clients at the other end: what those tests share.
//!
//! A test builds [`content`](crate::content) and a [`torrent`](crate::torrent) of it, lays a [`net`](crate::net) of
//! its own, starts [`rivals`](crate::rivals), [`hostile`](crate::hostile) peers and [`ringtide`](crate::ringtide) in it,
//! [`wait`](crate::wait)s, and compares what arrived byte for byte.
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
