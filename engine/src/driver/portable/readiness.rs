//! Waiting for a socket to become ready, or for its operation to be cancelled.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;

use super::core::Control;
use super::watched::Watched;

/// Ends when `watched` can be read from (or has ended, or failed), or with `ECANCELED`.
pub(super) async fn readable(watched: &Watched, control: &Control) -> io::Result<()> {
    unless_cancelled(watched.stream().readable(false), control).await
}

/// Ends when `watched` can be written to (or has failed), or with `ECANCELED`.
pub(super) async fn writable(watched: &Watched, control: &Control) -> io::Result<()> {
    unless_cancelled(watched.stream().writable(false), control).await
}

async fn unless_cancelled(ready: impl Future<Output = io::Result<()>>, control: &Control) -> io::Result<()> {
    let mut ready = pin!(ready);
    poll_fn(|cx| match control.check(cx) {
        Ok(()) => ready.as_mut().poll(cx),
        Err(error) => std::task::Poll::Ready(Err(error)),
    })
    .await
}
