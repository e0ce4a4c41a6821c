//! SHA-1 and SHA-256 for many messages at once, and the merkle trees of BEP 52.
