//! What the stand-in libraries and the tests that use them agree on.
//!
//! [`Ledger`] is the table of counters that a stand-in keeps and a test reads, also from another process. [`picture`]
//! says what the stand-in decoder "decodes".

mod ledger;
pub mod names;
pub mod picture;

pub use ledger::{Ledger, Row};
