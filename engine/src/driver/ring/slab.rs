//! `Slab`: operations in flight under keys that fit the kernel's `user_data` and are never mixed up with those of
//! earlier operations.

use super::ops::InFlight;

/// Bits of a key that count how often its slot was used; the rest of the upper half is for [`super::Tag`].
const GENERATION_MASK: u64 = (1 << 30) - 1;

/// Names an operation in flight: slot number below, generation (30 bits) above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

impl Key {
    fn new(index: usize, generation: u64) -> Key {
        Key((generation & GENERATION_MASK) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

struct Slot {
    generation: u64,
    op: Option<InFlight>,
}

/// Operations in flight.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

impl Slab {
    pub(super) fn insert(&mut self, op: InFlight) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, op: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.op = Some(op);
        Key::new(index, slot.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut InFlight> {
        let slot = self.slots.get_mut(key.index())?;
        if Key::new(key.index(), slot.generation) != key {
            return None;
        }
        slot.op.as_mut()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<InFlight> {
        self.get_mut(key)?;
        let slot = &mut self.slots[key.index()];
        slot.generation += 1;
        self.free.push(key.index());
        slot.op.take()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight> {
        self.slots.iter_mut().filter_map(|slot| slot.op.as_mut())
    }

    /// Removes the operations the kernel does not know.
    pub(super) fn drop_parked(&mut self) {
        for slot in &mut self.slots {
            if slot.op.as_ref().is_some_and(|op| op.parked) {
                slot.op = None;
            }
        }
    }

    /// Whether nothing is under way. What was lent does not count: how long the network needs it is up to peers.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.iter().flat_map(|slot| &slot.op).all(InFlight::is_lent)
    }
}
