//! How a program ended, in SSH's words.

use russh::Sig;

use crate::platform::process::Ending;
use crate::platform::signals::Signal;

/// Exit status of a program that could not be started, as shells use it.
pub(super) const CANNOT_START: u32 = 126;

/// What the client is told about the end of a program
/// ([RFC 4254 section 6.10](https://www.rfc-editor.org/rfc/rfc4254#section-6.10)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Status(u32),
    Signal { name: String, core_dumped: bool, message: String },
}

impl Exit {
    pub(super) fn new(ending: Ending) -> Self {
        match ending {
            Ending::Signal { number, core_dumped } => Self::Signal {
                name: signal_name(number),
                core_dumped,
                message: format!("killed by signal {number}"),
            },
            // Windows has statuses of 32 bits; only people read them as negative numbers.
            Ending::Status(status) => Self::Status(status.cast_unsigned()),
        }
    }
}

/// The signals that SSH has names for; RFC 4254 section 6.10 has no others.
const NAMES: [(Signal, &str); 13] = [
    (Signal::ABORT, "ABRT"),
    (Signal::ALARM, "ALRM"),
    (Signal::FPE, "FPE"),
    (Signal::HUP, "HUP"),
    (Signal::ILL, "ILL"),
    (Signal::INT, "INT"),
    (Signal::KILL, "KILL"),
    (Signal::PIPE, "PIPE"),
    (Signal::QUIT, "QUIT"),
    (Signal::SEGV, "SEGV"),
    (Signal::TERM, "TERM"),
    (Signal::USR1, "USR1"),
    (Signal::USR2, "USR2"),
];

/// All other signals share the name that OpenSSH's server gives them.
pub(super) fn signal_name(number: i32) -> String {
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map_or("SIG@openssh.com", |(_, name)| name)
        .to_owned()
}

/// The signal a client asks for with a `signal` request; `None` for names this system does not have.
pub(super) fn requested_signal(requested: &Sig) -> Option<Signal> {
    let name = match requested {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    NAMES.iter().find(|(_, known)| *known == name).map(|(signal, _)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_signals_are_told_apart() {
        assert_eq!(Exit::new(Ending::Status(7)), Exit::Status(7));
        assert_eq!(Exit::new(Ending::Status(255)), Exit::Status(255));
        assert_eq!(Exit::new(Ending::Status(-1_073_741_510)), Exit::Status(0xc000_013a));
        let signal = |number, core_dumped| match Exit::new(Ending::Signal { number, core_dumped }) {
            Exit::Signal { name, core_dumped, .. } => (name, core_dumped),
            Exit::Status(status) => panic!("status {status}"),
        };
        assert_eq!(signal(15, false), ("TERM".to_owned(), false));
        assert_eq!(signal(11, true), ("SEGV".to_owned(), true));
        assert_eq!(signal(7, false), ("SIG@openssh.com".to_owned(), false));
    }

    #[test]
    fn requested_signals_are_those_with_a_name() {
        assert_eq!(requested_signal(&Sig::INT), Some(Signal::INT));
        assert_eq!(requested_signal(&Sig::Custom("USR2".into())), Some(Signal::USR2));
        assert_eq!(requested_signal(&Sig::Custom("WINCH".into())), None);
    }
}
