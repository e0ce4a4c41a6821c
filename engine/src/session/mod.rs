//! The control plane: HTTP in both directions so far.

#[cfg_attr(not(test), expect(dead_code, reason = "the session that announces is still to come"))]
pub(crate) mod http;
#[cfg(test)]
mod testing;
#[cfg_attr(not(test), expect(dead_code, reason = "the session that runs a tracker is still to come"))]
pub(crate) mod tracker_server;
