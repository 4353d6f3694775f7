//! Settings from environment variables: `WATCHPOST__CAMERA__GATE__URL=…`

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::did_you_mean;
use super::reading::shown_key;
use super::tree::{Layers, Node, Value};

const PREFIX: &str = "WATCHPOST__";

/// The environment a configuration is read in. Has no `Debug`: it holds passwords.
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Collects variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Lays all `WATCHPOST__…` variables over what the files say, in the order of their names.
    pub fn lay_over(&self, layers: &mut Layers) {
        let mut seen = BTreeSet::new();
        for (name, value) in &self.0 {
            let Some(address) = name.strip_prefix(PREFIX) else { continue };
            match path_of(address, layers) {
                Ok(path) if seen.insert(path.clone()) => layers.add_variable(name, value, &path),
                Ok(path) => {
                    let message = format!("another variable sets `{}` already", shown_key(&path.join(".")));
                    layers.add_lost_variable(name, message);
                }
                Err(message) => layers.add_lost_variable(name, message),
            }
        }
    }
}

/// `CAMERA__GATE__URL` to `camera`, `gate`, `url`.
fn path_of(address: &str, layers: &Layers) -> Result<Vec<String>, String> {
    let sections = || super::KEYS.iter().map(|(section, _)| *section).chain(["defaults"]);
    let lower = address.to_lowercase();
    let (section, rest) = lower.split_once("__").unwrap_or((&lower, ""));
    if !sections().any(|known| known == section) {
        let guess = did_you_mean(section, sections());
        return Err(format!("there is no section `{}`{guess}", shown_key(section)));
    }
    let is_named = matches!(section, "camera" | "output");
    let form = match is_named {
        true => format!("{PREFIX}{}__NAME__KEY", section.to_uppercase()),
        false => format!("{PREFIX}{}__KEY", section.to_uppercase()),
    };
    if !is_named {
        return match !rest.is_empty() && !rest.contains("__") {
            true => Ok(vec![section.to_owned(), rest.to_owned()]),
            false => Err(format!("this name addresses no setting: write {form}")),
        };
    }
    match rest.rsplit_once("__") {
        Some((name, key)) if !name.is_empty() && !key.is_empty() => {
            let named = layers.root.get(section);
            let Some((camera, kind, own)) = within_camera(name).filter(|_| section == "camera") else {
                return Ok(vec![section.to_owned(), existing_name(named, name)?, key.to_owned()]);
            };
            let camera = existing_name(named, camera)?;
            let own = existing_name(child(named, &camera).and_then(|node| child(Some(node), kind)), own)?;
            Ok(vec![section.to_owned(), camera, kind.to_owned(), own, key.to_owned()])
        }
        _ => Err(format!("this name addresses no setting: write {form}")),
    }
}

/// `gate__zone__door` is the zone `door` of the camera `gate`.
fn within_camera(name: &str) -> Option<(&str, &'static str, &str)> {
    ["zone", "line"].into_iter().find_map(|kind| {
        let (camera, own) = name.split_once(&format!("__{kind}__"))?;
        (!camera.is_empty() && !own.is_empty()).then_some((camera, kind, own))
    })
}

fn child<'t>(node: Option<&'t Node>, key: &str) -> Option<&'t Node> {
    match &node?.value {
        Value::Table(table) => table.get(key),
        _ => None,
    }
}

/// The name as a file wrote it, where case and `-` cannot be said in a variable's name.
fn existing_name(named: Option<&Node>, name: &str) -> Result<String, String> {
    let folded = |name: &str| name.to_lowercase().replace('-', "_");
    let Some(Value::Table(named)) = named.map(|node| &node.value) else {
        return Ok(name.to_owned());
    };
    let matching: Vec<&String> = named.keys().filter(|known| folded(known) == folded(name)).collect();
    match matching.as_slice() {
        [] => Ok(name.to_owned()),
        [only] => Ok((*only).clone()),
        several => {
            let names: Vec<_> = several.iter().map(|name| shown_key(name)).collect();
            Err(format!("this name could mean {}", names.join(" or ")))
        }
    }
}
