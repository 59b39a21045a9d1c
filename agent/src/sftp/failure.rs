//! Why a request failed, as the client is told.

use std::{borrow::Cow, io};

use super::{system, wire::Status};

/// A status that is not success, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: Status,
    pub(super) message: Cow<'static, str>,
}

impl Failure {
    pub(super) const EOF: Self = Self::new(Status::EOF, "end of file");
    pub(super) const INVALID_HANDLE: Self = Self::new(Status::FAILURE, "no such open file or directory");
    pub(super) const NOT_A_FILE: Self = Self::new(Status::FAILURE, "the handle is that of a directory");
    pub(super) const NOT_A_DIRECTORY: Self = Self::new(Status::FAILURE, "the handle is that of a file");
    pub(super) const TOO_MANY_HANDLES: Self =
        Self::new(Status::FAILURE, "too many open files in this session");
    pub(super) const OFFSET_RANGE: Self = Self::new(Status::FAILURE, "offset beyond what a file can have");
    pub(super) const EMPTY_PATH: Self = Self::new(Status::NO_SUCH_FILE, "empty path");
    pub(super) const SIZE_OF_LINK: Self =
        Self::new(Status::BAD_MESSAGE, "the size of a symbolic link cannot be set");
    pub(super) const COPY_ONTO_ITSELF: Self =
        Self::new(Status::FAILURE, "a file cannot be copied onto itself");
    pub(super) const NO_SUCH_USER: Self = Self::new(Status::NO_SUCH_FILE, "no user of that name");
    pub(super) const TOO_MANY_IDS: Self =
        Self::new(Status::FAILURE, "more names asked for than fit a packet");
    pub(super) const UNSUPPORTED: Self = Self::new(Status::OP_UNSUPPORTED, "operation unsupported");
    pub(super) const READ_ONLY: Self =
        Self::new(Status::PERMISSION_DENIED, "nothing can be changed here over sftp");
    pub(super) const STOPPED: Self = Self::new(Status::FAILURE, "the session has ended");

    const fn new(status: Status, message: &'static str) -> Self {
        Self { status, message: Cow::Borrowed(message) }
    }

    pub(super) fn bad_message(message: String) -> Self {
        Self { status: Status::BAD_MESSAGE, message: message.into() }
    }
}

impl From<io::Error> for Failure {
    /// The system's own words without Rust's "(os error 13)".
    fn from(error: io::Error) -> Self {
        let status = system::status(&error);
        let mut message = error.to_string();
        if let Some(end) = message.rfind(" (os error ") {
            message.truncate(end);
        }
        Self { status, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_arrive_without_numbers() {
        let failure = Failure::from(io::Error::from_raw_os_error(13));
        assert_eq!(failure.status, Status::PERMISSION_DENIED);
        assert_eq!(failure.message, "Permission denied");
    }
}
