//! Names of users and groups, from the system's two files.
//!
//! Accounts that only a directory service knows have no name here and are shown by number: asking the C library would
//! block a static binary or need one that can load plug-ins.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
};

use super::system;

/// No more of a file than this is read; the real ones are a few kilobytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Who is who.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
    homes: HashMap<Vec<u8>, Vec<u8>>,
}

impl Accounts {
    /// Reads the system's files; one that cannot be read names nobody.
    pub(super) fn load() -> Self {
        Self::parse(
            &system::USERS_FILE.map(read).and_then(Result::ok).unwrap_or_default(),
            &system::GROUPS_FILE.map(read).and_then(Result::ok).unwrap_or_default(),
        )
    }

    fn parse(users: &[u8], groups: &[u8]) -> Self {
        let mut accounts = Self::default();
        for line in users.split(|byte| *byte == b'\n') {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            let [name, _, uid, _, _, home, ..] = fields[..] else { continue };
            let Some(uid) = number(uid) else { continue };
            // The first of several entries counts, as for the C library.
            accounts.users.entry(uid).or_insert_with(|| name.to_vec());
            accounts.homes.entry(name.to_vec()).or_insert_with(|| home.to_vec());
        }
        for line in groups.split(|byte| *byte == b'\n') {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            let [name, _, gid, ..] = fields[..] else { continue };
            let Some(gid) = number(gid) else { continue };
            accounts.groups.entry(gid).or_insert_with(|| name.to_vec());
        }
        accounts
    }

    pub(super) fn user(&self, uid: u32) -> Option<&[u8]> {
        self.users.get(&uid).map(Vec::as_slice)
    }

    pub(super) fn group(&self, gid: u32) -> Option<&[u8]> {
        self.groups.get(&gid).map(Vec::as_slice)
    }

    pub(super) fn home(&self, user: &[u8]) -> Option<&[u8]> {
        self.homes.get(user).map(Vec::as_slice)
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sftp) fn accounts() -> Accounts {
        Accounts::parse(
            b"root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/toor:/bin/sh\n+::::::\n#\nci:x:1001:121:\xff:/home/ci:\n",
            b"root:x:0:\ndocker:x:121:ci,root\nbroken\n",
        )
    }

    #[test]
    fn names_and_homes_are_found() {
        let accounts = accounts();
        assert_eq!(accounts.user(0), Some(&b"root"[..]));
        assert_eq!(accounts.group(121), Some(&b"docker"[..]));
        assert_eq!(accounts.home(b"ci"), Some(&b"/home/ci"[..]));
        assert_eq!((accounts.user(2), accounts.group(2), accounts.home(b"+")), (None, None, None));
    }
}
