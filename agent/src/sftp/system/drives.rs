//! Paths with drives, as OpenSSH for Windows gives them to clients: `/C:/dir/file` is `C:\dir\file`.

/// A path of a client as Windows has it. `/` alone is the root of the drive on which relative paths start,
/// `//server/share` a directory of another machine.
pub(super) fn to_windows(path: &str) -> String {
    let path = path.strip_prefix('/').filter(|rest| has_drive(rest)).unwrap_or(path);
    let mut windows = path.replace('/', "\\");
    if has_drive(&windows) && windows.len() == 2 {
        // Without the end it is the working directory of that drive.
        windows.push('\\');
    }
    windows
}

/// The other way round; a target of a link may be relative.
pub(super) fn from_windows(path: &str) -> String {
    let path = path.strip_prefix(r"\\?\").unwrap_or(path);
    let slash = if has_drive(path) { "/" } else { "" };
    format!("{slash}{}", path.replace('\\', "/"))
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_directories_of_the_root() {
        for (client, windows) in [
            ("/C:/Users/ci/a b", r"C:\Users\ci\a b"),
            ("/c:/", r"c:\"),
            ("relative/file", r"relative\file"),
            ("/", r"\"),
            ("//server/share/x", r"\\server\share\x"),
        ] {
            assert_eq!(to_windows(client), windows);
            assert_eq!(from_windows(windows), client);
        }
        assert_eq!(to_windows("/D:"), r"D:\");
        assert_eq!(to_windows("C:/x"), r"C:\x");
        assert_eq!(to_windows("/1:/x"), r"\1:\x");
        assert_eq!(from_windows(r"\\?\C:\x"), "/C:/x");
    }
}
