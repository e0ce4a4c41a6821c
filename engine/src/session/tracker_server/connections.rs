//! The connections that are being served, counted by address. What they say is not known here.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;

use tokio::task::JoinSet;

/// At most so many tasks in all, and of one address. Dropping it ends them.
pub(super) struct Connections {
    tasks: JoinSet<IpAddr>,
    /// Running tasks of each address; none is zero.
    by_address: BTreeMap<IpAddr, usize>,
    max: usize,
    max_per_address: usize,
}

impl Connections {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { tasks: JoinSet::new(), by_address: BTreeMap::new(), max, max_per_address }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < self.max
    }

    /// Serves the connection, or drops it where its address has all it may have.
    pub(super) fn spawn(&mut self, from: IpAddr, task: impl Future<Output = ()> + Send + 'static) {
        let count = self.by_address.entry(from).or_default();
        if *count >= self.max_per_address {
            return;
        }
        *count += 1;
        self.tasks.spawn(async move {
            task.await;
            from
        });
    }

    /// Waits for a connection to end; for ever where there is none.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(from)) => self.release(from),
            // A task that panicked does not say whose it was: count anew when all are gone.
            Some(Err(_)) if self.tasks.is_empty() => self.by_address.clear(),
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    fn release(&mut self, from: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&from);
            }
        }
    }
}
