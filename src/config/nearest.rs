//! "Did you mean …?"

/// The known word that a misspelt one most likely stands for, if any is near enough.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    if word.len() > 64 {
        return None;
    }
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, candidate);
    let allowed = |candidate: &str| (candidate.len().max(word.len()) / 3).max(1);
    known
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ``; did you mean `x`?`` or nothing.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    nearest(word, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_their_word_and_strangers_do_not() {
        let known = ["stall_timeout", "url", "slots", "classes"];
        let ask = |word| nearest(word, known.into_iter());
        assert_eq!(ask("stall_timout"), Some("stall_timeout"));
        assert_eq!(ask("Stall-Timeout"), Some("stall_timeout"));
        assert_eq!(ask("ulr"), Some("url"));
        assert_eq!(ask("clases"), Some("classes"));
        assert_eq!(ask("colour"), None);
        assert_eq!(ask(&"x".repeat(1000)), None);
    }
}
