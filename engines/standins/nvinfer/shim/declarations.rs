//! Reads C++ class declarations and writes, for each, a subclass whose every method stops the process
//! and names itself: the stand-in overrides what it can do, and a wild call cannot pass unseen.
//!
//! Shared by the build scripts (which read either our own declarations or NVIDIA's headers) and by the
//! tests (which compare slots). It reads just enough C++: pure virtual functions, in their order.

/// A virtual function of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its place in the virtual table. A destructor takes two places; this is the first.
    pub slot: usize,
    /// Empty for the destructor.
    pub name: String,
    pub returns: String,
    /// As declared, with the parentheses.
    pub parameters: String,
    pub is_const: bool,
    pub is_noexcept: bool,
}

impl Method {
    /// `int32_t getDLACore() const`, for comparisons and messages.
    pub fn signature(&self) -> String {
        let suffix = if self.is_const { " const" } else { "" };
        format!("{} {}{}{suffix}", self.returns, self.name, self.parameters)
    }
}

/// The virtual functions of `class` in `header`, in slot order, or `None` if the class is not there.
/// `first_slot` is 2 for a class whose base brings the destructor, 0 for one without a base.
pub fn methods(header: &str, class: &str, first_slot: usize) -> Option<Vec<Method>> {
    let text = without_comments(header);
    let body = class_body(&text, class)?;
    let mut slot = first_slot;
    let mut found = Vec::new();
    for statement in statements(body) {
        let Some(method) = method(&statement, class, slot) else { continue };
        slot += if method.name.is_empty() { 2 } else { 1 };
        found.push(method);
    }
    Some(found)
}

/// The subclass `{class}Rest`: every method says which slot was called and stops the process.
pub fn rest_class(class: &str, methods: &[Method]) -> String {
    let mut out = format!("class {class}Rest : public {class}\n{{\npublic:\n");
    for method in methods.iter().filter(|method| !method.name.is_empty()) {
        let Method { slot, name, returns, parameters, is_const, is_noexcept } = method;
        let constant = if *is_const { " const" } else { "" };
        let noexcept = if *is_noexcept { " noexcept" } else { "" };
        let signature = method.signature().replace('"', "'");
        out.push_str(&format!(
            "    {returns} {name}{parameters}{constant}{noexcept} override\n    \
             {{ wps_unimplemented(\"{class}\", {slot}, \"{signature}\"); }}\n"
        ));
    }
    out.push_str("};\n");
    out
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else {
            out.push('/');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// What is between the braces of the definition of `class`; a forward declaration is passed over.
fn class_body<'a>(text: &'a str, class: &str) -> Option<&'a str> {
    let wanted = format!("class {class}");
    let mut from = 0;
    while let Some(found) = text[from..].find(&wanted) {
        let after = from + found + wanted.len();
        let tail = &text[after..];
        from = after;
        if tail.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let stop = tail.find(['{', ';'])?;
        if tail.as_bytes()[stop] == b';' {
            continue;
        }
        let mut depth = 0_usize;
        for (index, byte) in tail.bytes().enumerate().skip(stop) {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => return Some(&tail[stop + 1..index]),
                b'}' => depth -= 1,
                _ => {}
            }
        }
    }
    None
}

/// Statements of a class body, each in one line with single spaces.
fn statements(body: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (byte == b';' || byte == b'}') {
            out.push(body[start..index].split_whitespace().collect::<Vec<_>>().join(" "));
            start = index + 1;
        }
    }
    out
}

fn method(statement: &str, class: &str, slot: usize) -> Option<Method> {
    let (_, declared) = statement.split_once("virtual ")?;
    if declared.starts_with('~') {
        return Some(Method {
            slot,
            name: String::new(),
            returns: String::new(),
            parameters: String::new(),
            is_const: false,
            is_noexcept: true,
        });
    }
    let declared = declared.strip_suffix("= 0").unwrap_or_else(|| {
        panic!("{class}: a virtual function that is not pure is not understood: {statement}")
    });
    let open = declared.find('(')?;
    let close = declared.rfind(')')?;
    let (head, suffix) = (declared[..open].trim(), &declared[close + 1..]);
    let name_at = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    Some(Method {
        slot,
        name: head[name_at..].to_owned(),
        returns: head[..name_at].trim().to_owned(),
        parameters: format!("({})", declared[open + 1..close].trim()),
        is_const: suffix.split_whitespace().any(|word| word == "const"),
        is_noexcept: suffix.split_whitespace().any(|word| word == "noexcept"),
    })
}
