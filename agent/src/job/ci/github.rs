//! What a job can show on the pages of GitHub Actions.

use crate::relay::announce::Announcement;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};
use url::Url;

/// GitHub takes no more per step, and then none of it.
const MAX_SUMMARY_BYTES: u64 = 1024 * 1024;

/// A workflow command that puts a notice on the page of the run.
pub(super) fn notice(title: &str, message: &str) -> String {
    format!("::notice title={}::{}", property(title), data(message))
}

/// Escapes the message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Adds the lines to copy to the job's summary.
pub(super) fn add_to_summary(file: &Path, announcement: &Announcement) -> io::Result<()> {
    let section = section(announcement);
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    let size = file.metadata()?.len().saturating_add(section.len() as u64);
    if size > MAX_SUMMARY_BYTES {
        return Err(io::Error::other("what is in it already leaves no room"));
    }
    file.write_all(section.as_bytes())
}

fn section(announcement: &Announcement) -> String {
    let client = format!("{}\n{}", announcement.ssh_command(), announcement.sftp_command());
    let mut section = format!(
        "\n### Open for ssh as {}\n\nWith the converge client:\n\n{}\nWith plain ssh and websocat:\n\n{}\n",
        announcement.id(),
        code(&client),
        code(&announcement.plain_ssh()),
    );
    // A parsed URL has no characters in it that end a link.
    if let Ok(page) = Url::parse(&announcement.page()) {
        section += &format!("More ways: <{page}>\n");
    }
    section
}

/// A block of code whose fence is longer than any in the text.
fn code(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}sh\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_workflow_command_early() {
        assert_eq!(
            notice("a:b,c%", "x::y,50%\r\n::error::z"),
            "::notice title=a%3Ab%2Cc%25::x::y,50%25%0D%0A::error::z"
        );
    }

    #[test]
    fn nothing_ends_a_block_of_code_early() {
        assert_eq!(code("a ``` b"), "````sh\na ``` b\n````\n");
    }
}
