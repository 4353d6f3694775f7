//! Labels: one name per class, UTF-8, any language.

/// The 80 classes of COCO, the set most public detectors are trained on.
const COCO80: &str = include_str!("../../engines/models/coco80.txt");
/// Text of the longest label file.
pub(super) const MAX_LABELS_BYTES: u64 = 1 << 20;
/// More classes than any public detector has (LVIS 1203, Open Images 601).
pub(super) const MAX_LABELS: usize = 16_384;

/// The labels of COCO in their order.
pub fn coco80() -> Vec<String> {
    COCO80.lines().map(str::to_owned).collect()
}

/// Labels from a text file: one a line; empty lines at the end are ignored, a byte-order mark too.
///
/// # Errors
/// What is wrong, with the line.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    check(&labels)?;
    Ok(labels)
}

/// Checks names from wherever they come.
///
/// # Errors
/// What is wrong, counted from 1.
pub fn check(labels: &[String]) -> Result<(), String> {
    if labels.is_empty() {
        return Err("there are no labels".to_owned());
    }
    if labels.len() > MAX_LABELS {
        return Err(format!("{} labels are more than {MAX_LABELS}", labels.len()));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.trim().is_empty() {
            return Err(format!(
                "label {} is empty; write one label a line and no empty lines between them",
                index + 1
            ));
        }
        if label.chars().any(char::is_control) {
            return Err(format!("label {} has a control character in it", index + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coco_has_its_80_classes_in_order() {
        let labels = coco80();
        assert_eq!(labels.len(), 80);
        assert_eq!((labels[0].as_str(), labels[79].as_str()), ("person", "toothbrush"));
    }

    #[test]
    fn labels_of_any_script_survive_and_line_ends_do_not() {
        let labels = parse("\u{feff}人\r\nПёс\n  voiture électrique \n\n").unwrap();
        assert_eq!(labels, ["人", "Пёс", "voiture électrique"]);
    }

    #[test]
    fn an_empty_line_in_the_middle_is_an_error_and_not_a_shift_of_all_classes() {
        assert_eq!(
            parse("a\n\nb").unwrap_err(),
            "label 2 is empty; write one label a line and no empty lines between them"
        );
        assert_eq!(parse(" \n").unwrap_err(), "there are no labels");
        assert!(parse("a\u{1b}[31m").unwrap_err().contains("control character"));
    }
}
