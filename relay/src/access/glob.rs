//! Patterns in which `*` stands for any characters, and nothing else is special.

/// Whether the whole of `text` is like `pattern`. Takes at most the product of both lengths in steps.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(last) = pieces.next_back() else { return pattern == text };
    let Some(rest) = text.strip_prefix(first) else { return false };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_is_any_text_and_all_else_itself() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "a/b"),
            ("main", "main"),
            ("refs/tags/*", "refs/tags/"),
            ("refs/tags/*", "refs/tags/v1/x"),
            ("a*b*c", "abc"),
            ("a*b*c", "axbxbxc"),
            ("*-ci", "team-ci"),
            ("**a", "a"),
            ("a?", "a?"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("main", "Main"),
            ("main", "main2"),
            ("refs/tags/*", "refs/heads/refs/tags/x"),
            ("ab*bc", "abc"),
            ("a*b*c", "acb"),
            ("a?", "ab"),
            ("*a*a*", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
