//! Fills a launch template in.

use crate::spec::{SourceKind, Spec};

/// `template` without its comments and with its placeholders replaced.
///
/// # Errors
/// A sentence about a placeholder that does not exist, or that this source kind has no value for.
pub(crate) fn expand(template: &str, spec: &Spec) -> Result<String, String> {
    let text: Vec<&str> = template.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = text.join("\n");
    let mut rest = text.as_str();
    let mut expanded = String::with_capacity(text.len() + 64);
    while let Some(open) = rest.find('{') {
        expanded.push_str(&rest[..open]);
        let inside = &rest[open + 1..];
        match inside.find('}').map(|close| &inside[..close]).filter(|name| is_name(name)) {
            Some(name) => {
                expanded.push_str(&quote(&value(name, spec)?));
                rest = &inside[name.len() + 1..];
            }
            // A list in caps, such as format={NV12,I420}.
            None => {
                expanded.push('{');
                rest = inside;
            }
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn value(name: &str, spec: &Spec) -> Result<String, String> {
    let of_kind = |value: Option<String>, kind: &str| {
        value.ok_or_else(|| format!("{{{name}}} has a value only for {kind}"))
    };
    match name {
        "url" => of_kind(
            match &spec.kind {
                SourceKind::Rtsp { url } => Some(url.clone()),
                _ => None,
            },
            "rtsp:// and rtsps://",
        ),
        "device" => of_kind(
            match &spec.kind {
                SourceKind::V4l2 { device } => Some(device.display().to_string()),
                _ => None,
            },
            "v4l2://",
        ),
        "sensor_index" => of_kind(
            match &spec.kind {
                SourceKind::Csi { sensor_index } => Some(sensor_index.to_string()),
                _ => None,
            },
            "csi://",
        ),
        "path" => of_kind(
            match &spec.kind {
                SourceKind::File { path } | SourceKind::Image { path } => Some(path.display().to_string()),
                _ => None,
            },
            "file://",
        ),
        "transport" => Ok(spec.transport.to_string()),
        "latency_ms" => Ok(u32::try_from(spec.latency.as_millis()).unwrap_or(u32::MAX).to_string()),
        "decode_threads" => Ok(spec.decode_threads.max(1).to_string()),
        "tls_flags" => Ok(if spec.tls_verify { "validate-all" } else { "no-flags" }.to_owned()),
        _ => Err(format!(
            "there is no placeholder {{{name}}}; there are {{url}}, {{transport}}, {{latency_ms}}, {{tls_flags}}, \
             {{device}}, {{sensor_index}}, {{path}} and {{decode_threads}}"
        )),
    }
}

/// A value that gst-launch reads as one word, whatever is in it.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Spec {
        Spec::new(SourceKind::File { path: path.into() })
    }

    #[test]
    fn comments_go_and_placeholders_are_quoted() {
        let text = expand(
            "# a {nonsense}\n  # b\nfilesrc location={path} ! x n={decode_threads}",
            &file("/a b.mp4"),
        );
        assert_eq!(text.unwrap(), "filesrc location=\"/a b.mp4\" ! x n=\"1\"");
    }

    #[test]
    fn a_hostile_value_stays_one_word() {
        let text = expand("filesrc location={path}", &file(r#"/x" ! fakesink \"#)).unwrap();
        assert_eq!(text, r#"filesrc location="/x\" ! fakesink \\""#);
    }

    #[test]
    fn lists_in_caps_are_left_alone() {
        let text = "video/x-raw,format={NV12,I420},width={ 1, 2 }";
        assert_eq!(expand(text, &file("/a")).unwrap(), text);
    }

    #[test]
    fn an_unknown_placeholder_names_the_known_ones() {
        let error = expand("x={uri}", &file("/a")).unwrap_err();
        assert!(error.contains("{uri}") && error.contains("{url}"), "{error}");
    }

    #[test]
    fn a_placeholder_of_another_kind_is_refused() {
        let error = expand("x={url}", &file("/a")).unwrap_err();
        assert!(error.contains("only for rtsp://"), "{error}");
    }
}
