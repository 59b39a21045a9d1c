//! Which protocol versions both sides speak.

use super::{super::Cause, report::Finding};
use converge_proto::version::ProtocolVersion;

/// What a carrier has found out.
#[derive(Clone, Debug)]
pub(super) enum Agreement {
    /// Both sides have agreed on a version.
    Common,
    /// They have none in common: in words.
    None(String),
}

impl Agreement {
    /// What a failure tells about versions, if anything.
    pub(super) fn after(cause: &Cause) -> Option<Self> {
        matches!(cause, Cause::Version { .. }).then(|| Self::None(cause.to_string()))
    }
}

pub(super) fn judge(seen: [Option<Agreement>; 2]) -> Finding {
    let program = env!("CARGO_PKG_VERSION");
    let mut agreed = false;
    for agreement in seen.into_iter().flatten() {
        match agreement {
            Agreement::None(words) => {
                return Finding::fail(
                    format!("{words}; this program is {program}"),
                    super::super::failure::UPGRADE,
                );
            }
            Agreement::Common => agreed = true,
        }
    }
    if agreed {
        let newest = ProtocolVersion::NEWEST.subprotocol();
        Finding::pass(format!("both sides speak {newest}; this program is {program}"))
    } else {
        let versions = ProtocolVersion::list();
        Finding::skip(format!("no relay was reached; this program is {program} and speaks {versions}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CheckName, Outcome},
        *,
    };

    #[test]
    fn one_carrier_that_agrees_is_enough_and_one_that_does_not_is_too_much() {
        let none = || Some(Agreement::after(&Cause::Version { relay_speaks: None }).unwrap());
        for (seen, outcome) in [
            ([None, None], Outcome::Skip),
            ([None, Some(Agreement::Common)], Outcome::Pass),
            ([Some(Agreement::Common), Some(Agreement::Common)], Outcome::Pass),
            ([Some(Agreement::Common), none()], Outcome::Fail),
            ([none(), None], Outcome::Fail),
        ] {
            let case = format!("{seen:?}");
            assert_eq!(judge(seen).at_once(CheckName::Version).outcome, outcome, "{case}");
        }
        assert!(Agreement::after(&Cause::Silent).is_none());
    }
}
