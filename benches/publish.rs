//! Cost of publishing one record.
fn main() {}
