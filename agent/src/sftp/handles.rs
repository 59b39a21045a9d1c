//! What a client has open.

use std::{collections::HashMap, fs::File};

use super::{failure::Failure, system::Directory};

/// The name of an open file or directory on the wire: eight bytes, never given twice in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HandleId(u64);

impl HandleId {
    pub(super) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        bytes.try_into().map(|bytes| Self(u64::from_be_bytes(bytes))).map_err(|_| Failure::INVALID_HANDLE)
    }
}

/// An open file, and how it is written.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) position: WritePosition,
}

/// Where a write lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WritePosition {
    /// At the offset the client gives.
    Given,
    /// At the end of the file, whatever the offset says.
    End,
}

#[derive(Debug)]
pub(super) enum Handle {
    File(OpenFile),
    Directory(Directory),
}

/// The table of handles; dropping it closes them.
#[derive(Debug)]
pub(super) struct Handles {
    open: HashMap<HandleId, Handle>,
    next: u64,
    limit: usize,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: HashMap::new(), next: 0, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Fails if nothing more may be opened; asked before a file is created or cut off.
    pub(super) fn require_room(&self) -> Result<(), Failure> {
        if self.open.len() < self.limit { Ok(()) } else { Err(Failure::TOO_MANY_HANDLES) }
    }

    pub(super) fn insert(&mut self, handle: Handle) -> Result<HandleId, Failure> {
        self.require_room()?;
        let id = HandleId(self.next);
        self.next = self.next.wrapping_add(1);
        self.open.insert(id, handle);
        Ok(id)
    }

    pub(super) fn remove(&mut self, handle: &[u8]) -> Result<Handle, Failure> {
        self.open.remove(&HandleId::from_bytes(handle)?).ok_or(Failure::INVALID_HANDLE)
    }

    pub(super) fn any(&self, handle: &[u8]) -> Result<&Handle, Failure> {
        self.open.get(&HandleId::from_bytes(handle)?).ok_or(Failure::INVALID_HANDLE)
    }

    pub(super) fn file(&self, handle: &[u8]) -> Result<&OpenFile, Failure> {
        match self.any(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Directory(_) => Err(Failure::NOT_A_FILE),
        }
    }

    pub(super) fn directory(&mut self, handle: &[u8]) -> Result<&mut Directory, Failure> {
        match self.open.get_mut(&HandleId::from_bytes(handle)?) {
            Some(Handle::Directory(directory)) => Ok(directory),
            Some(Handle::File(_)) => Err(Failure::NOT_A_DIRECTORY),
            None => Err(Failure::INVALID_HANDLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Handle {
        Handle::File(OpenFile { file: tempfile::tempfile().unwrap(), position: WritePosition::Given })
    }

    #[test]
    fn the_last_handle_fits_and_the_next_does_not() {
        let mut handles = Handles::new(2);
        let first = handles.insert(file()).unwrap();
        handles.insert(file()).unwrap();
        assert_eq!(handles.insert(file()), Err(Failure::TOO_MANY_HANDLES));
        handles.remove(&first.to_bytes()).unwrap();
        handles.insert(file()).unwrap();
    }

    #[test]
    fn a_closed_handle_never_means_another_file() {
        let mut handles = Handles::new(2);
        let first = handles.insert(file()).unwrap();
        handles.remove(&first.to_bytes()).unwrap();
        let second = handles.insert(file()).unwrap();
        assert_ne!(first, second);
        assert_eq!(handles.remove(&first.to_bytes()).err(), Some(Failure::INVALID_HANDLE));
    }

    #[test]
    fn handles_of_other_lengths_are_refused() {
        let handles = Handles::new(2);
        for bytes in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(handles.any(bytes).err(), Some(Failure::INVALID_HANDLE));
        }
    }
}
