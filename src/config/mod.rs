//! Raw TOML to a validated [`Config`].

mod options;
mod secret;

pub use options::*;
pub use secret::Secret;
