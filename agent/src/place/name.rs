//! Names of containers and pods, which become words of a command line: none of them can be taken for an option.

use std::fmt;
use std::str::FromStr;

/// The longest name or ID of a container. Docker sets no limit; a host name of its DNS has this one.
const MAX_CONTAINER_BYTES: usize = 253;
/// The longest name of a pod and of a namespace or container in it
/// ([Kubernetes' names](https://kubernetes.io/docs/concepts/overview/working-with-objects/names/)).
const MAX_POD_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A container's name, or the whole or the beginning of its ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName(String);

/// A pod, and which of its containers; without one, the pod's default container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: Option<String>,
}

/// Why a name cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Not a container's.
    #[error("{0:?} is no container: expected letters, digits, and _ . - behind the first of them")]
    Container(String),
    /// Not a pod's.
    #[error(
        "{0:?} is no pod: expected NAMESPACE/POD or NAMESPACE/POD/CONTAINER, in small letters, digits, - and ."
    )]
    Pod(String),
}

impl ContainerName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if begins_well && goes_on_well && text.len() <= MAX_CONTAINER_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName::Container(text.chars().take(MAX_CONTAINER_BYTES).collect()))
        }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PodName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let mut parts = text.split('/');
        let (namespace, pod, container) = (parts.next(), parts.next(), parts.next());
        let label = |name: &str| is_pod_word(name, MAX_LABEL_BYTES) && !name.contains('.');
        match (namespace, pod, container, parts.next()) {
            (Some(namespace), Some(pod), container, None)
                if label(namespace) && is_pod_word(pod, MAX_POD_BYTES) && container.is_none_or(label) =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    pod: pod.to_owned(),
                    container: container.map(str::to_owned),
                })
            }
            _ => Err(NotAName::Pod(text.chars().take(MAX_POD_BYTES).collect())),
        }
    }
}

fn is_pod_word(name: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= longest
        && name.bytes().all(|byte| plain(byte) || b"-.".contains(&byte))
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)?;
        self.container.iter().try_for_each(|container| write!(f, "/{container}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_be_an_option_or_a_path_is_a_container() {
        for name in ["web", "0a1b2c3d4e5f", "my_app-db.1", "A"] {
            assert_eq!(name.parse::<ContainerName>().map(|parsed| parsed.to_string()), Ok(name.to_owned()));
        }
        let long = "x".repeat(MAX_CONTAINER_BYTES);
        assert!(long.parse::<ContainerName>().is_ok());
        for name in ["", "-it", "--privileged", "_x", ".x", "a/b", "a b", "a\nb", "é", "a=b", &(long + "x")]
        {
            assert!(name.parse::<ContainerName>().is_err(), "{name}");
        }
    }

    #[test]
    fn pods_have_a_namespace_and_perhaps_a_container() {
        for name in ["ci/build-1", "ci/build-1.x/main", "0/1/2"] {
            assert_eq!(name.parse::<PodName>().map(|parsed| parsed.to_string()), Ok(name.to_owned()));
        }
        for name in [
            "",
            "pod",
            "/pod",
            "ns/",
            "ns//c",
            "-n/pod",
            "ns/-it",
            "ns/pod/--",
            "ns/p/c/d",
            "ns/Pod",
            "a.b/pod",
            "ns/p-",
        ] {
            assert!(name.parse::<PodName>().is_err(), "{name}");
        }
    }
}
