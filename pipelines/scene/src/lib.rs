//! A procedural video scene with known truth, rendered as I420.
