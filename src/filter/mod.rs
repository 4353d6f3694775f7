//! PURE: which objects of a camera are published.

use crate::model::nearest;
use crate::track::Tracked;

/// One camera's filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// By class id; `None` lets every class through.
    allowed: Option<Vec<bool>>,
    score_threshold: f32,
}

impl Filter {
    /// `classes` are labels of the model, `None` for all; scores below `score_threshold` do not pass.
    ///
    /// # Errors
    /// The labels that the model does not have.
    pub fn new(
        classes: Option<&[String]>,
        labels: &[String],
        score_threshold: f32,
    ) -> Result<Self, Vec<String>> {
        let Some(classes) = classes else {
            return Ok(Self { allowed: None, score_threshold });
        };
        let unknown: Vec<String> = classes.iter().filter(|class| !labels.contains(class)).cloned().collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let allowed = labels.iter().map(|label| classes.contains(label)).collect();
        Ok(Self { allowed: Some(allowed), score_threshold })
    }

    /// Whether objects of this class are of any interest: others are not even tracked.
    pub fn wants(&self, class_id: u32) -> bool {
        match &self.allowed {
            Some(allowed) => allowed.get(class_id as usize).copied().unwrap_or(false),
            None => true,
        }
    }

    /// Whether this object is published.
    pub fn passes(&self, object: &Tracked) -> bool {
        self.wants(object.class_id) && object.score >= self.score_threshold
    }
}

/// More labels than this are not listed in a message.
const LISTED_MAX: usize = 12;

/// What to say of a model that lacks labels, after its name: the nearest ones that it has.
pub fn lacks_labels(unknown: &[String], labels: &[String]) -> String {
    let quoted: Vec<String> = unknown
        .iter()
        .map(|word| match nearest(word, labels.iter().map(String::as_str)) {
            Some(label) => format!("\"{word}\" (did you mean \"{label}\"?)"),
            None => format!("\"{word}\""),
        })
        .collect();
    let known = if labels.len() <= LISTED_MAX {
        format!("it has: {}", labels.join(", "))
    } else {
        format!("`watchpost model show` lists the {} that it has", labels.len())
    };
    format!("has no label {}; {known}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["人", "car", "dog"].map(str::to_owned).to_vec()
    }

    fn detection(class_id: u32, score: f32) -> Tracked {
        Tracked { class_id, score, bbox: [0.0, 0.0, 1.0, 1.0], track_id: None }
    }

    #[test]
    fn only_the_classes_asked_for_pass() {
        let filter = Filter::new(Some(&["人".to_owned()]), &labels(), 0.3).expect("known");
        assert!(filter.passes(&detection(0, 0.5)));
        assert!(!filter.passes(&detection(1, 0.9)));
        assert!(!filter.passes(&detection(99, 0.9)));
    }

    #[test]
    fn scores_below_the_threshold_do_not_pass() {
        let filter = Filter::new(None, &labels(), 0.3).expect("all");
        assert!(filter.passes(&detection(2, 0.3)));
        assert!(!filter.passes(&detection(2, 0.299)));
        assert!(!filter.passes(&detection(2, f32::NAN)));
    }

    #[test]
    fn labels_the_model_does_not_have_are_named() {
        let unknown = Filter::new(Some(&["cat".to_owned(), "car".to_owned()]), &labels(), 0.3);
        assert_eq!(unknown, Err(vec!["cat".to_owned()]));
        assert_eq!(
            lacks_labels(&["Dog".to_owned(), "zebra".to_owned()], &labels()),
            "has no label \"Dog\" (did you mean \"dog\"?), \"zebra\"; it has: 人, car, dog"
        );
        let many: Vec<String> = (0..80).map(|index| format!("label{index}")).collect();
        assert!(lacks_labels(&["x".to_owned()], &many).ends_with("lists the 80 that it has"));
    }
}
