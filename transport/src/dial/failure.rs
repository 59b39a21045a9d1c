//! What dialing can fail by, in words.

use crate::{
    link::Carrier,
    proxy::{ProxyUrl, UnusableProxy},
};
use converge_certs::TrustFailure;
use converge_proto::{RelayUrl, RelayUrls, rendezvous::messages::Line, version::ProtocolVersion};
use http::StatusCode;
use rustls::AlertDescription;
use std::{fmt, io};

/// What to do when the two sides have no version in common.
pub(super) const UPGRADE: &str = "upgrade the older of the two";

/// One carrier's failure.
#[derive(Debug)]
pub struct Failure {
    pub(super) carrier: Carrier,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// No answer in time.
    Silent,
    /// The name leads nowhere: what the resolver said.
    Resolve(String),
    /// Nobody listens there, or nobody lets us through.
    Io(io::Error),
    /// A proxy is in the way: named without its password.
    Proxy { proxy: String, problem: ProxyProblem },
    /// The environment names a proxy that makes no sense.
    UnusableProxy(UnusableProxy),
    /// An HTTP server that does not speak our WebSocket.
    NotARelay(StatusCode),
    /// An HTTP server that would have us go elsewhere, and to which host.
    Redirected { status: StatusCode, host: Option<String> },
    /// A relay that met a limit, in its words.
    Refused(Line),
    /// The relay knows no such ID.
    NoSuchId,
    /// The relay wants a token, or does not take this one.
    NotAdmitted(StatusCode),
    /// No common protocol version.
    Version { relay_speaks: Option<String> },
    /// The relay does not take the certificate that we have shown: why not.
    CertificateRefused(&'static str),
    /// What the library said.
    Other(String),
}

/// Why a relay does not take the certificate that was shown to it, when that is what its alert is about (RFC 8446
/// section 6.2).
pub(crate) fn refused_certificate(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA => "no authority that it believes has issued it",
        AlertDescription::CertificateExpired => "it has expired",
        AlertDescription::CertificateRevoked => "it has been revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => "it is not one for a client, or it is malformed",
        _ => return None,
    })
}

/// What a proxy does instead of letting us through.
#[derive(Debug)]
pub(crate) enum ProxyProblem {
    /// Its name leads nowhere.
    Resolve(String),
    /// It cannot be reached.
    Unreachable(io::Error),
    /// It says nothing in time.
    Silent,
    /// Its own certificate is not trusted, or its TLS fails otherwise.
    Tls(String),
    /// It wants a user name and password, and the URL has none.
    WantsPassword(AskedBy),
    /// It does not take those in the URL.
    RefusesPassword(AskedBy),
    /// It wants a login of kinds that we cannot do.
    OtherLogin(String),
    /// It says no: an HTTP status, or SOCKS's own words.
    Refuses(String),
    /// It is no proxy of this kind.
    NotAProxy(String),
}

/// How a proxy asks for a password. The number is what people search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedBy {
    /// HTTP status 407 (RFC 9110 section 15.5.8).
    Http407,
    /// SOCKS version 5 (RFC 1929).
    Socks,
}

impl fmt::Display for AskedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http407 => " (HTTP status 407)",
            Self::Socks => "",
        })
    }
}

impl Cause {
    pub(super) fn proxy(proxy: &ProxyUrl, problem: ProxyProblem) -> Self {
        Self::Proxy { proxy: proxy.to_string(), problem }
    }

    pub(super) fn silent_proxy(proxy: &ProxyUrl) -> Self {
        Self::proxy(proxy, ProxyProblem::Silent)
    }

    pub(super) fn other(error: &impl ToString) -> Self {
        Self::Other(error.to_string())
    }

    /// Of the failures of several addresses the one that says most: somebody has answered, or at least the network has.
    pub(super) fn most_telling(causes: Vec<Self>) -> Self {
        causes.into_iter().rev().max_by_key(Self::rank).unwrap_or(Self::Silent)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Silent => 0,
            Self::Io(_) => 1,
            _ => 2,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Resolve(detail) => write!(f, "the name cannot be resolved here: {detail}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Proxy { proxy, problem } => write!(f, "the proxy {proxy} {problem}"),
            Self::UnusableProxy(error) => write!(f, "{error}"),
            Self::NotARelay(StatusCode::SWITCHING_PROTOCOLS) => {
                f.write_str("the server opens WebSockets but does not speak Converge")
            }
            Self::NotARelay(StatusCode::UPGRADE_REQUIRED) => f.write_str(
                "the server has not seen that a WebSocket was asked for: something in between has taken that out of \
                 the request",
            ),
            Self::NotARelay(status) => write!(f, "the server answers {status} and is not a relay"),
            Self::Redirected { status, host: Some(host) } => {
                write!(f, "the server answers {status} and sends us to {host} instead of opening a WebSocket")
            }
            Self::Redirected { status, host: None } => {
                write!(f, "the server answers {status} and sends us elsewhere instead of opening a WebSocket")
            }
            Self::Refused(words) => write!(f, "the relay refuses: {words}"),
            Self::NoSuchId => f.write_str("the relay has no agent with this ID"),
            Self::NotAdmitted(status) => write!(f, "the relay does not let us in ({status})"),
            Self::Version { relay_speaks: Some(theirs) } => {
                write!(f, "the relay speaks {theirs}, this program {}", ProtocolVersion::list())
            }
            Self::Version { relay_speaks: None } => {
                write!(f, "the relay speaks none of this program's versions ({})", ProtocolVersion::list())
            }
            Self::CertificateRefused(why) => {
                write!(f, "the relay does not take the certificate shown to it: {why}")
            }
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(detail) => write!(f, "has a name that cannot be resolved: {detail}"),
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Silent => f.write_str("does not answer"),
            Self::Tls(detail) => write!(f, "does not speak TLS that can be trusted: {detail}"),
            Self::WantsPassword(by) => write!(f, "wants a user name and password{by}"),
            Self::RefusesPassword(by) => write!(f, "refuses the user name and password{by}"),
            Self::OtherLogin(kinds) => write!(f, "wants a login of a kind that is not supported ({kinds})"),
            Self::Refuses(answer) => write!(f, "does not connect us to the relay: {answer}"),
            Self::NotAProxy(detail) => write!(f, "does not answer like a proxy of this kind: {detail}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.carrier, self.cause)
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The relay's name leads nowhere.
    #[error("cannot resolve {host}: {detail}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// The relay's certificate was not accepted.
    #[error("{failure}")]
    NotTrusted {
        /// Why.
        failure: TrustFailure,
    },
    /// Both sides are there and have no protocol version in common.
    #[error("{}", join(failures))]
    Version {
        /// What each carrier met.
        failures: Vec<Failure>,
    },
    /// A raw client's relay knows no such ID.
    #[error("the relay has no agent with this ID")]
    NoSuchId,
    /// A raw client's relay wants a token, or does not take this one.
    #[error("the relay does not let us in ({0})")]
    NotAdmitted(StatusCode),
    /// No carrier got through.
    #[error("cannot reach {authority}: {}", join(failures))]
    Unreachable {
        /// The relay's host and port.
        authority: String,
        /// What each carrier met.
        failures: Vec<Failure>,
    },
    /// There are several relays, and none can be used.
    #[error("none of the {} relays can be used: {}", failures.len(), briefly(failures))]
    Several {
        /// What each met, in the order in which they were named.
        failures: Vec<(RelayUrl, DialError)>,
    },
    /// The certificate that is to be shown cannot be read.
    #[error("cannot read the certificate to show: {0}")]
    ClientCertificate(String),
    /// This side could not even begin.
    #[error("cannot prepare TLS: {0}")]
    Setup(String),
}

impl DialError {
    pub(super) fn of(relay: &RelayUrl, failures: Vec<Failure>, trust: Option<TrustFailure>) -> Self {
        if let Some(failure) = trust {
            return Self::NotTrusted { failure };
        }
        if failures.iter().any(|failure| matches!(failure.cause, Cause::NoSuchId)) {
            return Self::NoSuchId;
        }
        if let Some(status) = failures.iter().find_map(|failure| match failure.cause {
            Cause::NotAdmitted(status) => Some(status),
            _ => None,
        }) {
            return Self::NotAdmitted(status);
        }
        if failures.iter().any(|failure| matches!(failure.cause, Cause::Version { .. })) {
            return Self::Version { failures };
        }
        Self::Unreachable { authority: format!("{}:{}", relay.host(), relay.port()), failures }
    }

    /// What several relays have led to, each once, in the order in which they failed.
    pub(super) fn of_all(relays: &RelayUrls, mut failures: Vec<(&RelayUrl, Self)>) -> Self {
        let is_local = |error: &Self| matches!(error, Self::ClientCertificate(_) | Self::Setup(_));
        let is_plain = !relays.are_several()
            // The same everywhere, and no relay's doing.
            || failures.iter().all(|(_, error)| is_local(error))
            || failures.iter().all(|(_, error)| matches!(error, Self::NoSuchId));
        if is_plain && let Some((_, error)) = failures.pop() {
            return error;
        }
        failures.sort_by_key(|(relay, _)| relays.iter().position(|named| named == *relay));
        let failures = failures.into_iter().map(|(relay, error)| (relay.clone(), error));
        Self::Several { failures: failures.collect() }
    }

    /// What a list of several has room for.
    fn in_brief(&self) -> String {
        match self {
            Self::Resolve { .. } => "its name cannot be resolved".to_owned(),
            Self::NotTrusted { failure: TrustFailure::WrongPin { .. } } => {
                "its certificate has another key than the pin in its URL".to_owned()
            }
            Self::NotTrusted { .. } => "its certificate is not trusted".to_owned(),
            Self::NoSuchId => "no agent with this ID".to_owned(),
            Self::NotAdmitted(status) => format!("it does not let us in ({status})"),
            Self::Version { .. } => "no version in common".to_owned(),
            Self::Unreachable { failures, .. } => {
                let causes = failures.iter().map(|failure| &failure.cause);
                causes.rev().max_by_key(|cause| cause.rank()).unwrap_or(&Cause::Silent).to_string()
            }
            Self::ClientCertificate(_) | Self::Setup(_) | Self::Several { .. } => self.to_string(),
        }
    }

    /// The one to do something about: of several the first that will not mend itself.
    fn worst(&self) -> &Self {
        match self {
            Self::Several { failures } => {
                let mut errors = failures.iter().map(|(_, error)| error);
                let first = errors.clone().next();
                errors.find(|error| !error.may_pass()).or(first).unwrap_or(self)
            }
            one => one,
        }
    }

    /// What the person can do about it.
    pub fn advice(&self) -> &'static str {
        match self.worst() {
            Self::Resolve { .. } => "check the relay's URL and this machine's name server",
            Self::NotTrusted { failure } => trust_advice(failure),
            Self::NoSuchId => "check the ID, and whether the job still runs",
            Self::NotAdmitted(StatusCode::UNAUTHORIZED) => {
                "set CONVERGE_TOKEN to a token that its operator gave you, or ask for another"
            }
            Self::NotAdmitted(_) => "ask its operator",
            Self::Version { .. } => UPGRADE,
            Self::Unreachable { failures, .. } => {
                let advice = failures.iter().find_map(|failure| failure.cause.advice());
                advice.unwrap_or("check that the relay runs there and that the network lets it through")
            }
            Self::Several { .. } => "check the relays' URLs",
            Self::ClientCertificate(_) => "check the files of --client-cert and --client-key",
            Self::Setup(_) => "this is a bug; please report it",
        }
    }

    /// Whether the relay says that its first certificate is on its way, which takes seconds if it is true.
    pub fn awaits_certificate(&self) -> bool {
        match self {
            Self::NotTrusted { failure } => failure.awaits_certificate(),
            Self::Several { failures } => failures.iter().any(|(_, error)| error.awaits_certificate()),
            _ => false,
        }
    }

    /// Whether dialing again can go better without anybody changing anything: not when it is about trust, versions or
    /// what was configured; of several relays one is enough.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Several { failures } => failures.iter().any(|(_, error)| error.may_pass()),
            // Somebody may be renewing the files.
            Self::Resolve { .. } | Self::NoSuchId | Self::ClientCertificate(_) => true,
            Self::NotTrusted { .. } | Self::NotAdmitted(_) | Self::Version { .. } | Self::Setup(_) => false,
            Self::Unreachable { failures, .. } => failures.iter().all(|failure| failure.cause.may_pass()),
        }
    }
}

/// What to do about a certificate that was not accepted.
pub(super) fn trust_advice(failure: &TrustFailure) -> &'static str {
    match failure {
        failure if failure.awaits_certificate() => {
            "try again in a minute; if it stays so, the relay's log says what its authority does not like"
        }
        TrustFailure::WrongPin { .. } => {
            "copy the relay's URL again from where it was started; if it has not changed, somebody is in between, \
             such as a proxy that opens TLS or a network that wants a login first"
        }
        TrustFailure::NotTrusted { .. } => {
            "use the URL that the relay prints at its start: it carries the pin of a self-signed certificate; if \
             the issuer is not the relay's, somebody is in between, such as a proxy that opens TLS"
        }
    }
}

impl Cause {
    /// What to do about this one in particular.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Proxy { problem, .. } => Some(match problem {
                ProxyProblem::WantsPassword(_) | ProxyProblem::RefusesPassword(_) => {
                    "put them in the proxy's URL: http://USER:PASSWORD@HOST:PORT, with / ? # and @ in them as %2F %3F \
                     %23 %40"
                }
                ProxyProblem::OtherLogin(_) => {
                    "run a local proxy that can do this login, and name that one with --proxy"
                }
                ProxyProblem::Refuses(_) => {
                    "ask who runs the proxy to let it through to the relay, or try without it: --proxy none"
                }
                ProxyProblem::Resolve(_)
                | ProxyProblem::Unreachable(_)
                | ProxyProblem::Silent
                | ProxyProblem::Tls(_)
                | ProxyProblem::NotAProxy(_) => {
                    "check --proxy or HTTPS_PROXY and its kin, or try without a proxy: --proxy none"
                }
            }),
            Self::UnusableProxy(_) => {
                Some("mend it, name another proxy with --proxy, or none with --proxy none")
            }
            Self::Redirected { .. } | Self::NotARelay(StatusCode::OK) => Some(
                "check the relay's URL; if it is right, open any page in a browser: this network may want a login first",
            ),
            Self::NotARelay(StatusCode::UPGRADE_REQUIRED) => Some(
                "a proxy or balancer on the way must pass the Upgrade and Connection headers on (RFC 6455); with TLS \
                 between here and the relay, wss:// or https://, it could not touch them",
            ),
            Self::NotARelay(StatusCode::NOT_FOUND) => {
                Some("check the path in the relay's URL: a web server answers there, but not the relay")
            }
            Self::NotARelay(
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT,
            ) => Some("check that the relay runs behind the balancer that answers"),
            Self::Version { .. } => Some(UPGRADE),
            Self::CertificateRefused(_) => Some(
                "check the file of --client-cert, and with the relay's operator that its issuer is in the file of the \
                 relay's --agent-ca",
            ),
            _ => None,
        }
    }

    fn may_pass(&self) -> bool {
        !matches!(
            self,
            Self::UnusableProxy(_)
                | Self::CertificateRefused(_)
                | Self::Proxy {
                    problem: ProxyProblem::WantsPassword(_)
                        | ProxyProblem::RefusesPassword(_)
                        | ProxyProblem::OtherLogin(_),
                    ..
                }
        )
    }
}

fn join(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Relays that met the same are named together: `a and b: no answer; c: Connection refused`.
fn briefly(failures: &[(RelayUrl, DialError)]) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (relay, error) in failures {
        let brief = error.in_brief();
        match groups.iter_mut().find(|(known, _)| *known == brief) {
            Some((_, relays)) => relays.push(relay.authority()),
            None => groups.push((brief, vec![relay.authority()])),
        }
    }
    let groups = groups.iter().map(|(brief, relays)| match relays.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}: {brief}", others.join(", ")),
        _ => format!("{}: {brief}", relays.join(", ")),
    });
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(relay: &RelayUrl, causes: [Cause; 2]) -> DialError {
        let [quic, websocket] = causes;
        let failures = vec![
            Failure { carrier: Carrier::Quic, cause: quic },
            Failure { carrier: Carrier::WebSocket, cause: websocket },
        ];
        DialError::of(relay, failures, None)
    }

    #[test]
    fn several_relays_are_told_of_in_one_line_and_the_same_is_said_once() {
        let relays: RelayUrls = "https://a,https://b:4433,https://c,https://d".parse().unwrap();
        let [a, b, c, d] = relays.iter().collect::<Vec<_>>()[..] else { panic!("four") };
        let refused = || Cause::Io(io::ErrorKind::ConnectionRefused.into());
        let failures = vec![
            (d, DialError::Resolve { host: d.host(), detail: "no such name".to_owned() }),
            (c, unreachable(c, [Cause::Silent, Cause::Silent])),
            (a, unreachable(a, [Cause::Silent, refused()])),
            (b, unreachable(b, [Cause::Silent, Cause::Silent])),
        ];
        let error = DialError::of_all(&relays, failures);
        assert_eq!(
            error.to_string(),
            "none of the 4 relays can be used: a: connection refused; b:4433 and c: no answer; d: its name cannot be \
             resolved"
        );
        assert!(error.may_pass() && !error.awaits_certificate());
        assert!(error.advice().starts_with("check that the relay runs there"), "{}", error.advice());
    }

    #[test]
    fn one_relay_is_told_of_as_ever_and_what_is_no_relays_doing_once() {
        let one: RelayUrls = "https://a".parse().unwrap();
        let error = DialError::of_all(&one, vec![(one.first(), DialError::NoSuchId)]);
        assert!(matches!(error, DialError::NoSuchId));
        let two: RelayUrls = "https://a,https://b".parse().unwrap();
        let both = |error: fn() -> DialError| two.iter().map(|relay| (relay, error())).collect();
        let error = DialError::of_all(&two, both(|| DialError::NoSuchId));
        assert!(matches!(error, DialError::NoSuchId), "{error}");
        let error = DialError::of_all(&two, both(|| DialError::ClientCertificate("gone".to_owned())));
        assert_eq!(error.to_string(), "cannot read the certificate to show: gone");
    }

    #[test]
    fn list_is_given_up_only_when_no_relay_of_it_may_mend() {
        let relays: RelayUrls = "https://a,https://b".parse().unwrap();
        let not_admitted = || DialError::NotAdmitted(StatusCode::UNAUTHORIZED);
        let of = |first: DialError, second: DialError| {
            let errors = relays.iter().zip([first, second]);
            DialError::of_all(&relays, errors.collect())
        };
        assert!(of(not_admitted(), DialError::NoSuchId).may_pass());
        let hopeless = of(DialError::Version { failures: Vec::new() }, not_admitted());
        assert!(!hopeless.may_pass());
        assert_eq!(hopeless.advice(), UPGRADE);
        assert_eq!(
            of(DialError::NoSuchId, not_admitted()).advice(),
            not_admitted().advice(),
            "what somebody has to do something about"
        );
    }
}
