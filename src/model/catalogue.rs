//! Models that can be fetched: manifests with a `[download]` table. Those of `engines/models/` are compiled in, so that
//! the list is there on a box that has nothing but the binary.

use std::env;
use std::path::{Path, PathBuf};

use super::find::list;
use super::manifest_text::nearest;
use super::{Manifest, ModelError};

const MANIFESTS: [&str; 7] = [
    include_str!("../../engines/models/yolox-nano.toml"),
    include_str!("../../engines/models/yolox-tiny.toml"),
    include_str!("../../engines/models/yolox-s.toml"),
    include_str!("../../engines/models/nanodet-m.toml"),
    include_str!("../../engines/models/nanodet-plus-m-320.toml"),
    include_str!("../../engines/models/dfine-n.toml"),
    include_str!("../../engines/models/dfine-s.toml"),
];

/// The manifests that are compiled in and whose weights are to be fetched.
pub fn catalogue() -> Vec<Result<Manifest, ModelError>> {
    let folder = pull_dir().unwrap_or_default();
    MANIFESTS.iter().map(|text| Manifest::catalogued(text, &folder)).collect()
}

/// Where fetched models go, unless somebody says otherwise: what systemd gives the service; else, for root, where the
/// service looks; else the user's own folder. `None` without a home.
pub fn pull_dir() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd joins several state directories with colons; ours is the first.
    let state = env::var("STATE_DIRECTORY").ok();
    let state = state.as_deref().and_then(|list| list.split(':').next()).filter(|dir| dir.starts_with('/'));
    if let Some(state) = state {
        return Some(Path::new(state).join("models"));
    }
    let user = absolute("XDG_DATA_HOME").map(|data| data.join("watchpost/models"));
    // Root with a data folder of its own asked for that one.
    if user.is_none() && rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/watchpost/models"));
    }
    user.or_else(|| absolute("HOME").map(|home| home.join(".local/share/watchpost/models")))
}

/// The manifest of this name that says where its weights can be fetched: from `dirs`, or compiled in.
///
/// # Errors
/// [`ModelError::Unknown`] names those there are.
pub fn downloadable(name: &str, dirs: &[PathBuf]) -> Result<Manifest, ModelError> {
    let mut known = Vec::new();
    let on_disk = list(dirs).into_iter().filter_map(|listed| listed.manifest.ok());
    let compiled_in = catalogue().into_iter().filter_map(Result::ok);
    for manifest in on_disk.chain(compiled_in).filter(|manifest| manifest.download.is_some()) {
        if manifest.name == name {
            return Ok(manifest);
        }
        known.push(manifest.name);
    }
    known.sort();
    known.dedup();
    let suggestion = nearest(name, known.iter().map(String::as_str))
        .map_or_else(String::new, |nearest| format!("did you mean {nearest:?}? "));
    let hint = format!(
        "{suggestion}models that can be fetched: {}; your own ONNX file needs `watchpost model add FILE.onnx`",
        known.join(", ")
    );
    Err(ModelError::Unknown { name: name.to_owned(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_complete_permissive_and_of_an_unchanging_place() {
        let entries: Vec<Manifest> = catalogue().into_iter().map(|entry| entry.expect("sound")).collect();
        for entry in &entries {
            let name = &entry.name;
            let download = entry.download.as_ref().expect(name);
            assert!(["Apache-2.0", "MIT"].contains(&entry.license.as_str()), "{name}: {}", entry.license);
            assert!(download.project.starts_with("https://"), "{name}");
            // A branch moves; a release and a commit do not.
            let commit = |part: &str| part.len() == 40 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let fixed = download.url.contains("/releases/download/") || download.url.split('/').any(commit);
            assert!(fixed, "{name}: {} may change", download.url);
            assert!(entry.evaluation.contains_key("map_50_95"), "{name}: no expected mAP");
            assert!(!entry.description.is_empty() && !entry.labels.is_empty(), "{name}");
        }
        let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), MANIFESTS.len());
    }
}
