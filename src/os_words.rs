//! What the operating system refused, in words for people.

use std::io::{self, ErrorKind};

/// The words for `error`, without its number.
pub(crate) fn plain_words(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The words for `error`, and what to do where that is plain.
pub(crate) fn os_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "No such file or folder; check the path".to_owned(),
        ErrorKind::PermissionDenied => "Permission denied; check its owner and mode".to_owned(),
        ErrorKind::IsADirectory => "This is a folder; name a file in it".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "The file system is read-only; choose another place".to_owned(),
        ErrorKind::InvalidData => "This is not UTF-8 text; save it as UTF-8".to_owned(),
        _ => plain_words(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_number_and_common_ones_an_advice() {
        let words = |code| os_words(&io::Error::from_raw_os_error(code));
        assert_eq!(plain_words(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(words(2), "No such file or folder; check the path");
        assert_eq!(words(5), "Input/output error");
        assert_eq!(os_words(&io::Error::other("strange")), "strange");
    }
}
