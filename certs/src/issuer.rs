//! By whom a certificate says that it was issued, for a person who wonders who is in between.

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

/// Longer names are cut: a stranger has chosen them.
const MAX_CHARACTERS: usize = 100;

/// The issuer's organisation, else its common name; `None` when there is neither, or no certificate that can be read.
/// Nothing vouches for it.
pub fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let issuer: &X509Name<'_> = certificate.issuer();
    printable(issuer.iter_organization()).or_else(|| printable(issuer.iter_common_name()))
}

fn printable<'a>(mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<String> {
    let value = values.next()?.as_str().ok()?;
    let name: String = value.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect();
    (!name.trim().is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn issued_by(names: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn organisation_goes_before_common_name() {
        let both = [(DnType::CommonName, "Root CA 7"), (DnType::OrganizationName, "Nosy Networks")];
        assert_eq!(name(&issued_by(&both)).as_deref(), Some("Nosy Networks"));
        assert_eq!(name(&issued_by(&both[..1])).as_deref(), Some("Root CA 7"));
        assert_eq!(name(&issued_by(&[])), None);
    }

    #[test]
    fn names_that_a_terminal_must_not_see_are_cleaned_and_cut() {
        let hostile = format!("\u{1b}[31mred\r\n{}", "x".repeat(200));
        let seen = name(&issued_by(&[(DnType::CommonName, &hostile)])).unwrap();
        assert!(seen.starts_with("[31mredxx"), "{seen:?}");
        assert_eq!(seen.chars().count(), MAX_CHARACTERS);
        assert_eq!(name(&CertificateDer::from(vec![0x30, 0x82, 0xff])), None);
    }
}
