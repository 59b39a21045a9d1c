//! The scripts that install programs from this relay, written for the URL under which it is reached.

use super::Download;
use askama::Template;
use converge_proto::RelayUrl;
use data_encoding::BASE64;

/// What the scripts and the lines that start them are made of.
#[derive(Debug)]
pub struct Installer {
    relay: RelayUrl,
}

#[derive(Template)]
#[template(path = "install.sh", escape = "none")]
struct Shell<'a> {
    /// The line that runs it.
    line: String,
    base: String,
    relay: String,
    pin: String,
    files: &'a [Download],
}

#[derive(Template)]
#[template(path = "install.ps1", escape = "none")]
struct PowerShell<'a> {
    script: String,
    base: String,
    files: &'a [Download],
}

impl Installer {
    /// Where the script for a POSIX shell is, below the relay's URL.
    pub const SHELL: &'static str = "install.sh";
    /// Where the script for Windows is.
    pub const POWERSHELL: &'static str = "install.ps1";

    /// For the relay at this URL.
    pub fn new(relay: RelayUrl) -> Self {
        Self { relay }
    }

    /// The line to copy; `agent` and the like may follow `sh -s --`.
    pub fn shell_line(&self) -> String {
        let script = self.url(Self::SHELL);
        match self.curl_pin() {
            Some(pin) => format!("curl -fsSLk --pinnedpubkey '{pin}' {} | sh", in_shell(&script)),
            None => format!("curl -fsSL {} | sh", in_shell(&script)),
        }
    }

    /// The line to copy on Windows, which cannot check a pin: there is none for a relay that has one.
    pub fn powershell_line(&self) -> Option<String> {
        let script = in_powershell(&self.url(Self::POWERSHELL));
        self.relay.pin().is_none().then(|| format!("irm {script} | iex"))
    }

    /// The same, for the agent.
    pub fn powershell_agent_line(&self) -> Option<String> {
        let script = in_powershell(&self.url(Self::POWERSHELL));
        self.relay.pin().is_none().then(|| format!("& ([scriptblock]::Create((irm {script}))) agent"))
    }

    /// The script for a POSIX shell.
    ///
    /// # Errors
    /// When it cannot be rendered.
    pub fn shell_script(&self, files: &[Download]) -> Result<String, askama::Error> {
        Shell {
            line: self.shell_line(),
            base: in_shell(&self.url("")),
            relay: in_shell(&self.relay.to_string()),
            pin: in_shell(&self.curl_pin().unwrap_or_default()),
            files,
        }
        .render()
    }

    /// The script for Windows.
    ///
    /// # Errors
    /// When it cannot be rendered.
    pub fn powershell_script(&self, files: &[Download]) -> Result<String, askama::Error> {
        PowerShell { script: self.url(Self::POWERSHELL), base: in_powershell(&self.url("")), files }.render()
    }

    fn url(&self, tail: &str) -> String {
        self.relay.with_scheme(self.relay.http_scheme(), tail)
    }

    /// The pin as curl writes it: the same SHA-256 in other letters.
    fn curl_pin(&self) -> Option<String> {
        self.relay.pin().map(|pin| format!("sha256//{}", BASE64.encode(&pin.0)))
    }
}

/// A URL has no control characters, so quotes are all there is to mind.
fn in_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn in_powershell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge_proto::CertificatePin;

    fn relay(url: &str) -> RelayUrl {
        url.parse().unwrap()
    }

    #[test]
    fn the_line_to_copy_is_for_the_url_and_the_certificate_there_is() {
        let plain = relay("https://relay.example/sub/path");
        let line = Installer::new(plain.clone()).shell_line();
        assert_eq!(line, "curl -fsSL 'https://relay.example/sub/path/install.sh' | sh");
        let line = Installer::new(plain.clone()).powershell_line().unwrap();
        assert_eq!(line, "irm 'https://relay.example/sub/path/install.ps1' | iex");

        let pinned = plain.with_pin(Some(CertificatePin([255; 32])));
        let line = Installer::new(pinned.clone()).shell_line();
        let pin = "sha256////////////////////////////////////////////8=";
        assert!(line.starts_with(&format!("curl -fsSLk --pinnedpubkey '{pin}' ")), "{line}");
        assert_eq!(Installer::new(pinned.clone()).powershell_line(), None);
    }

    #[test]
    fn the_script_says_where_it_is_from_and_what_there_is() {
        let relay = relay("ws://relay.example:8080/it's");
        let files = [Download { name: "converge-linux-x86_64".to_owned(), size: 1, sha256: "ab".repeat(32) }];
        let script = Installer::new(relay.clone()).shell_script(&files).unwrap();
        assert!(script.contains(r"base='http://relay.example:8080/it'\''s/'"), "{script}");
        assert!(script.contains("\npin=''\n"), "{script}");
        assert!(
            script.contains(&format!("    converge-linux-x86_64) echo {} ;;\n", files[0].sha256)),
            "{script}"
        );
        assert!(script.ends_with("main \"$@\"\n") || script.ends_with("main \"$@\""), "{script}");
        let script = Installer::new(relay.clone()).powershell_script(&files).unwrap();
        assert!(script.contains("$base = 'http://relay.example:8080/it''s/'"), "{script}");
    }
}
