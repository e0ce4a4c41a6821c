//! A seeded simulator of swarms, over the same state machines as the engine.
