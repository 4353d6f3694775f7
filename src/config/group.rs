//! A group of the system, as a configuration names it.

use super::reading::{Wrong, text_of};
use super::tree::{Node, Value};

/// A group of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// As `/etc/group` calls it.
    Name(String),
    /// Its number.
    Id(u32),
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// A group's name or number. Whether it exists is seen where the socket is made: `check` may run elsewhere.
pub(super) fn group_of(node: &Node) -> Result<Group, Wrong> {
    let expected = || "must be a group's name, like \"video\", or its number".to_owned();
    // The kernel takes the highest number for "leave it as it is".
    let id = |id: i128| u32::try_from(id).ok().filter(|id| *id != u32::MAX).map(Group::Id);
    match &node.value {
        Value::Integer(number, _) => id(*number).ok_or_else(expected),
        Value::Text(_) => {
            let text = text_of(node)?;
            if let Ok(number) = text.parse() {
                return id(number).ok_or_else(expected);
            }
            let is_name = !text.is_empty()
                && text.len() <= 256
                && !text.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control());
            if is_name { Ok(Group::Name(text.to_owned())) } else { Err(expected()) }
        }
        _ => Err(expected()),
    }
}
