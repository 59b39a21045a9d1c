//! What was typed into the form, and what it means.

use super::Ci;
use converge_proto::Id;
use data_encoding::BASE64;
use url::form_urlencoded;

/// A choice of a list, by the value of its entry.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $value:literal, $label:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Values, what people read, and whether it is this one.
            pub(super) fn options(self) -> Vec<(&'static str, &'static str, bool)> {
                vec![$(($value, $label, self == Self::$variant)),+]
            }

            pub(super) fn parse(text: &str) -> Option<Self> {
                match text { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(super) use choice;

choice! {
    /// What the job runs on.
    JobOs { Linux = "linux", "Linux"; Mac = "macos", "macOS"; Windows = "windows", "Windows"; }
}
choice! {
    /// What reads the lines in the job.
    Shell { Sh = "sh", "sh, bash or zsh"; PowerShell = "pwsh", "PowerShell"; }
}
choice! {
    /// What the person sits at.
    LocalOs { Linux = "linux", "Linux"; Mac = "macos", "macOS"; Windows = "windows", "Windows (PowerShell)"; }
}

/// The form as it was filled in. Texts may be wrong; [`Form::meant`] says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) ci: Ci,
    pub(super) os: JobOs,
    pub(super) shell: Shell,
    pub(super) local: LocalOs,
    pub(super) id: String,
    pub(super) github: String,
    pub(super) keys: String,
    pub(super) step: String,
}

/// What a form that makes sense means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) id: Option<Id>,
    pub(super) github: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) step: Option<String>,
}

/// Fields, and what is wrong with them.
pub(super) type Problems = Vec<(&'static str, String)>;

/// As many as anybody needs.
const MAX_KEYS: usize = 20;
const MAX_USERS: usize = 10;
const MAX_STEP_CHARACTERS: usize = 500;

impl Form {
    /// Reads a query. Without one: what most people have, and the machine that the browser says it runs on.
    pub(super) fn parse(query: &str, browser: &str) -> Self {
        let local = if browser.contains("Windows") {
            LocalOs::Windows
        } else if browser.contains("Mac OS") {
            LocalOs::Mac
        } else {
            LocalOs::Linux
        };
        let mut form = Self {
            ci: Ci::GitHub,
            os: JobOs::Linux,
            shell: Shell::Sh,
            local,
            id: String::new(),
            github: String::new(),
            keys: String::new(),
            step: String::new(),
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "ci" => form.ci = Ci::parse(&value).unwrap_or(form.ci),
                "os" => form.os = JobOs::parse(&value).unwrap_or(form.os),
                "shell" => form.shell = Shell::parse(&value).unwrap_or(form.shell),
                "local" => form.local = LocalOs::parse(&value).unwrap_or(form.local),
                "id" => value.trim().clone_into(&mut form.id),
                "github" => value.trim().clone_into(&mut form.github),
                "keys" => value.trim().clone_into(&mut form.keys),
                "step" => value.trim().clone_into(&mut form.step),
                _ => {}
            }
        }
        form
    }

    /// What it means, without the fields that make no sense.
    pub(super) fn meant(&self) -> (Meant, Problems) {
        let (mut meant, mut problems) = (Meant::default(), Problems::new());
        if !self.id.is_empty() {
            match self.id.parse() {
                Ok(id) => meant.id = Some(id),
                Err(error) => problems.push(("id", format!("The ID: {error}."))),
            }
        }
        let users = self.github.split([',', ' ']).filter(|user| !user.is_empty());
        for user in users.take(MAX_USERS) {
            if is_github_user(user) {
                meant.github.push(user.to_owned());
            } else {
                problems.push(("github", format!("“{}” is not the name of a GitHub user.", cut(user))));
            }
        }
        for line in self.keys.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_KEYS) {
            match public_key(line) {
                Ok(key) => meant.keys.push(key),
                Err(words) => {
                    problems.push(("keys", words.to_owned()));
                    break;
                }
            }
        }
        if self.step.chars().count() > MAX_STEP_CHARACTERS || self.step.chars().any(char::is_control) {
            problems.push(("step", "The step's command: one line of at most 500 characters.".to_owned()));
        } else if !self.step.is_empty() {
            meant.step = Some(self.step.clone());
        }
        (meant, problems)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Letters, digits and single hyphens inside, at most 39 (GitHub's own rule).
fn is_github_user(name: &str) -> bool {
    let has_only = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    has_only && name.len() <= 39 && !name.starts_with('-') && !name.ends_with('-')
}

/// A line of a `.pub` file, with a comment that needs no quoting in any shell.
fn public_key(line: &str) -> Result<String, &'static str> {
    if line.contains("PRIVATE KEY") {
        return Err(
            "That is a private key. Never paste it anywhere; the public one is in the file that ends with .pub.",
        );
    }
    let mut words = line.split_whitespace();
    let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
        return Err("A public key looks like this: ssh-ed25519 AAAA… you@laptop.");
    };
    let blob = BASE64.decode(encoded.as_bytes()).unwrap_or_default();
    // RFC 4253 section 6.6: the blob begins with the length of its type, and the type.
    let start = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
    if !blob.starts_with(&[&start, kind.as_bytes()].concat()) || kind.contains('\'') {
        return Err("One of the public keys is cut off or mistyped; copy the whole line.");
    }
    let harmless = |character: &char| character.is_ascii_alphanumeric() || "@._+-".contains(*character);
    let comment: String = words.collect::<Vec<_>>().join("-").chars().filter(harmless).take(64).collect();
    Ok(format!("{kind} {encoded} {comment}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5F5Rz4h1l3wA0B0M0gkQqz1c0uVd9wS0mJm0mJ0mJ0";

    fn problems(query: &str) -> Vec<String> {
        Form::parse(query, "").meant().1.into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn a_form_that_makes_sense_is_taken_as_it_is_meant() {
        let key = form_urlencoded::byte_serialize(format!("{KEY} O'Neil's \"$(laptop)\"").as_bytes())
            .collect::<String>();
        let form = Form::parse(
            &format!("ci=gitlab&os=macos&id=my-build&github=a,+b-c&keys={key}&step=make+test"),
            "",
        );
        let (meant, problems) = form.meant();
        assert_eq!((problems, form.ci, form.os), (vec![], Ci::GitLab, JobOs::Mac));
        assert_eq!(meant.github, ["a", "b-c"]);
        assert_eq!(meant.keys, [format!("{KEY} ONeils-laptop")]);
        assert_eq!((meant.id.unwrap().as_str(), meant.step.as_deref()), ("my-build", Some("make test")));
    }

    #[test]
    fn what_makes_no_sense_is_told_in_words() {
        assert!(problems("id=My+Build").first().unwrap().starts_with("The ID: "));
        assert_eq!(problems("github=%24(id)"), ["“$(id)” is not the name of a GitHub user."]);
        assert!(
            problems("keys=-----BEGIN+OPENSSH+PRIVATE+KEY-----")
                .first()
                .unwrap()
                .starts_with("That is a private key.")
        );
        assert!(problems("keys=ssh-ed25519+AAAA").first().unwrap().contains("cut off"));
        assert!(problems("keys=hello").first().unwrap().contains("looks like this"));
        assert_eq!(problems("step=a%0Ab").len(), 1);
        assert!(problems("nothing=x&ci=unheard-of&%zz").is_empty());
    }

    #[test]
    fn the_browser_says_what_the_person_sits_at() {
        assert_eq!(Form::parse("", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)").local, LocalOs::Windows);
        assert_eq!(Form::parse("", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15)").local, LocalOs::Mac);
        assert_eq!(Form::parse("local=linux", "Windows").local, LocalOs::Linux);
    }
}
