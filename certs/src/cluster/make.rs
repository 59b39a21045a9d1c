//! The files of a cluster, and those of each of its relays.

use super::{
    AUTHORITY, AUTHORITY_KEY, ClusterError, ClusterIdentity, DOMAIN, GIVEN, RELAY, RELAY_KEY, SECRET, SHARED,
    SHARED_KEY, relay_name,
};
use crate::{
    Certificate, IdentityError,
    files::{create_private_directory, read_limited, write_private},
};
use converge_proto::RelayNumber;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

/// How long the certificate of a relay is valid; see [the module](super) for why.
const LIFETIME: Duration = Duration::from_hours(24 * 3652);
/// How far the clock of another relay may be behind that of the machine where its certificate was made.
const CLOCK_DIFFERENCE: Duration = Duration::from_hours(24);

/// Whether a relay may have its files already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// A new relay: a number that was given out is refused.
    First,
    /// A relay that gets new files. Its old ones stay good until they expire.
    Again,
}

/// Makes a cluster in this directory. `names` are in the certificate that its relays may show to agents and clients, who
/// go by its pin; without names it is for `localhost`, as that of a relay alone.
///
/// # Errors
/// [`ClusterError::Exists`] when one of the files is there; [`ClusterError`] when they cannot be made.
pub fn init(directory: &Path, names: &[String]) -> Result<(), ClusterError> {
    refuse_existing(directory, &[AUTHORITY, AUTHORITY_KEY, SECRET, SHARED, SHARED_KEY])?;
    let key = KeyPair::generate().map_err(ClusterError::Mint)?;
    let authority = authority().self_signed(&key).map_err(ClusterError::Mint)?;

    let names = if names.is_empty() { vec!["localhost".to_owned()] } else { names.to_vec() };
    let shared_key = KeyPair::generate().map_err(ClusterError::Mint)?;
    let shared = CertificateParams::new(names).and_then(|params| params.self_signed(&shared_key));
    let shared = shared.map_err(ClusterError::Mint)?;

    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| ClusterError::Random)?;

    create_private_directory(directory).map_err(ClusterError::Write)?;
    // The authority's key last: where it is, everything is.
    for (name, contents) in [
        (AUTHORITY, authority.pem().as_bytes()),
        (SECRET, &secret),
        (SHARED, shared.pem().as_bytes()),
        (SHARED_KEY, shared_key.serialize_pem().as_bytes()),
        (AUTHORITY_KEY, key.serialize_pem().as_bytes()),
    ] {
        write_private(&directory.join(name), contents).map_err(ClusterError::Write)?;
    }
    Ok(())
}

/// Makes the directory of one relay, `out`, from that of the cluster, `home`. `now` is when its certificate begins to be
/// valid, give or take a day. Returns what the relay will make of it.
///
/// # Errors
/// [`ClusterError::Given`] when the number was given out, [`ClusterError::Exists`] when one of the files is there, and
/// [`ClusterError`] when they cannot be read or made.
pub fn join(
    home: &Path,
    number: RelayNumber,
    out: &Path,
    join: Join,
    now: SystemTime,
) -> Result<ClusterIdentity, ClusterError> {
    let (authority_file, key_file) = (home.join(AUTHORITY), home.join(AUTHORITY_KEY));
    let authority = Certificate::from_files(&authority_file, &key_file).map_err(ClusterError::Home)?;
    let key = KeyPair::try_from(authority.key.secret_der()).map_err(ClusterError::Mint)?;
    let copied = [AUTHORITY, SECRET, SHARED, SHARED_KEY]
        .map(|name| read_limited(&home.join(name)).map(|contents| (name, contents)));
    let copied = copied.into_iter().collect::<Result<Vec<_>, _>>().map_err(ClusterError::Home)?;

    let relay_key = KeyPair::generate().map_err(ClusterError::Mint)?;
    let issuer = Issuer::new(self::authority(), key);
    let certificate = relay(number, now)?.signed_by(&relay_key, &issuer).map_err(ClusterError::Mint)?;
    let (certificate, relay_key) = (certificate.pem(), relay_key.serialize_pem());

    refuse_existing(out, &[AUTHORITY, SECRET, SHARED, SHARED_KEY, RELAY, RELAY_KEY])?;
    create_private_directory(out).map_err(ClusterError::Write)?;
    give_out(&home.join(GIVEN), number, &certificate, join)?;
    let made = [(RELAY, certificate.into_bytes()), (RELAY_KEY, relay_key.into_bytes())];
    for (name, contents) in copied.into_iter().chain(made) {
        write_private(&out.join(name), &contents).map_err(ClusterError::Write)?;
    }
    ClusterIdentity::load_at(out, now)
}

/// Writes down that the number is given out, before anybody has it: no two relays are ever the same one.
fn give_out(given: &Path, number: RelayNumber, certificate: &str, join: Join) -> Result<(), ClusterError> {
    create_private_directory(given).map_err(ClusterError::Write)?;
    let file = given.join(number.to_string());
    if join == Join::First {
        match fs::File::create_new(&file) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ClusterError::Given { number, file });
            }
            Err(source) => return Err(ClusterError::Write(IdentityError::Write { file, source })),
        }
    }
    write_private(&file, certificate.as_bytes()).map_err(ClusterError::Write)
}

/// Nothing is overwritten: a key that is gone is gone.
fn refuse_existing(directory: &Path, names: &[&str]) -> Result<(), ClusterError> {
    let there = names.iter().map(|name| directory.join(name)).find(|file| file.exists());
    there.map_or(Ok(()), |file| Err(ClusterError::Exists { file }))
}

/// For nothing but relays of the cluster: whoever trusted it for more would still not be told more by it.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Converge cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(DOMAIN.to_owned())],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn relay(number: RelayNumber, now: SystemTime) -> Result<CertificateParams, ClusterError> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| ClusterError::Clock)?;
    let epoch = date_time_ymd(1970, 1, 1);
    let date = |time: Option<Duration>| epoch.checked_add(time?.try_into().ok()?);
    let mut params = CertificateParams::new([relay_name(number)]).map_err(ClusterError::Mint)?;
    params.not_before = date(since_epoch.checked_sub(CLOCK_DIFFERENCE)).ok_or(ClusterError::Clock)?;
    params.not_after = date(since_epoch.checked_add(LIFETIME)).ok_or(ClusterError::Clock)?;
    params.distinguished_name = common_name(&format!("Relay {number} of a Converge cluster"));
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
