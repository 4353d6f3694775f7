//! How many classes a model has, and what they are called.

use super::{ConcludeError, Overrides, Said};
use crate::model::{OnnxFacts, coco80, labels as label_rules, python_literal};

/// How many labels the outputs have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClassCount {
    /// So many.
    Known(usize),
    /// Class numbers come in the data: any number of labels fits.
    Open,
    /// The same, by those whose models of COCO give its own numbers, the first being 1.
    OpenFromOne,
}

/// Labels in the metadata, if they can be read.
pub(super) fn in_metadata(facts: &OnnxFacts) -> Option<Vec<String>> {
    python_literal::labels(facts.metadata.get("names")?).filter(|labels| label_rules::check(labels).is_ok())
}

/// COCO's 80 classes under the numbers 0 to 90 that its annotations give them, as DETRs are trained; numbers that COCO
/// does not use have a name of their own.
pub(super) fn coco91() -> Vec<String> {
    /// Category numbers of COCO that were never annotated, and 0.
    const UNUSED: [usize; 11] = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83];
    let mut names = coco80().into_iter();
    (0..91)
        .map(|number| {
            let name = if UNUSED.contains(&number) { None } else { names.next() };
            name.unwrap_or_else(|| format!("unused{number}"))
        })
        .collect()
}

pub(super) fn labels(
    facts: &OnnxFacts,
    count: ClassCount,
    overrides: &Overrides,
    say: &mut Said,
) -> Result<Vec<String>, ConcludeError> {
    let known = match count {
        ClassCount::Known(count) => Some(count),
        ClassCount::Open | ClassCount::OpenFromOne => None,
    };
    let fits = |labels: &[String]| known.is_none_or(|count| labels.len() == count);
    let contradiction = |whose: &str, count: usize| {
        Err(ConcludeError::Contradiction {
            reason: format!(
                "has {} classes and {whose} {count} labels; give one per class, in the model's order",
                known.unwrap_or(0)
            ),
        })
    };
    if let Some(labels) = &overrides.labels {
        if !fits(labels) {
            return contradiction("the labels file has", labels.len());
        }
        say.note(format!("{} labels: yours", labels.len()));
        return Ok(labels.clone());
    }
    if let Some(text) = facts.metadata.get("names") {
        match (in_metadata(facts), python_literal::labels(text)) {
            (Some(labels), _) if fits(&labels) => {
                say.note(format!("{} labels: names in the metadata", labels.len()));
                return Ok(labels);
            }
            (Some(labels), _) => return contradiction("its metadata", labels.len()),
            (None, Some(_)) => {
                say.unknown("labels: those in the metadata have empty or unprintable names and were not used")
            }
            (None, None) => say.unknown("labels: the names in the metadata are not a Python dict or list"),
        }
    }
    match known {
        Some(80) => {
            say.unknown(
                "labels: the 80 of COCO were assumed, because there are 80 classes; --labels FILE says otherwise",
            );
            Ok(coco80())
        }
        None if count == ClassCount::OpenFromOne => {
            say.unknown(
                "labels: COCO's under their numbers 1 to 90 were assumed, because the outputs do not tell how many \
                 classes there are; --labels FILE says otherwise",
            );
            Ok(coco91().split_off(1))
        }
        None => {
            say.unknown(
                "labels: the 80 of COCO were assumed, because the outputs do not tell how many classes there are; \
                 --labels FILE says otherwise",
            );
            Ok(coco80())
        }
        Some(91) => {
            say.unknown(
                "labels: COCO's under their numbers 0 to 90 were assumed, because there are 91 classes; --labels \
                 FILE says otherwise",
            );
            Ok(coco91())
        }
        Some(count) => {
            say.unknown(format!(
                "labels: the file has none for its {count} classes; class0, class1, … were written; --labels FILE \
                 (one a line) names them"
            ));
            Ok((0..count).map(|index| format!("class{index}")).collect())
        }
    }
}
