//! Keeping house.
