//! Whether this relay is one of several, and how it finds the others.

use crate::{
    command_line::Cluster,
    config::{
        Loaded, Problem,
        cluster::{ClusterConfig, EtcdConfig, EtcdUser, LISTEN_PORT},
    },
    tls::files::CertificateFiles,
};
use converge_certs::{Certificate, TrustConfig, cluster::ClusterIdentity};
use std::net::{Ipv6Addr, SocketAddr};

/// A check of the whole.
pub(super) fn makes_sense(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let said = &loaded.settings.cluster;
    if said.cluster_dir.is_none() {
        let more = <Cluster as crate::command_line::Group>::TABLE.fields();
        let more: Vec<_> = more.filter(|field| *field != "cluster_dir" && loaded.is_said(field)).collect();
        if let Some(first) = more.first() {
            let what = "this is for one of several relays that act as one, and nothing says which one this is: name the \
                        directory that `converge-relay cluster join` has made";
            problems.push(Problem::about(&["cluster_dir", first], what));
        }
        return;
    }
    etcd_makes_sense(said, problems);
    let listen = listen(said);
    if listen.port() != 0 && loaded.settings.listen.listen == Some(listen) {
        let what = "the other relays need an address of their own to come to";
        problems.push(Problem::about(&["cluster_listen", "listen"], what));
    }
    if said.cluster_address.is_none() && listen.ip().is_unspecified() {
        let what = format!(
            "the other relays must be told where this one is: say a host and a port that lead to {listen} over UDP, such \
             as relay-1.internal:{LISTEN_PORT}"
        );
        problems.push(Problem::about(&["cluster_address"], what));
    }
}

fn etcd_makes_sense(said: &Cluster, problems: &mut Vec<Problem>) {
    let mut wrong = |fields: &[&str], what: &str| problems.push(Problem::about(fields, what));
    let endpoints = said.etcd.as_deref().unwrap_or_default();
    if endpoints.is_empty() {
        wrong(
            &["etcd"],
            "the relays of a cluster find each other through etcd: say where that is, such as http://etcd.internal:2379",
        );
    }
    let with_tls = endpoints.iter().filter(|url| url.has_tls()).count();
    if with_tls != 0 && with_tls != endpoints.len() {
        wrong(&["etcd"], "either all of them are https:// or none is");
    }
    for (field, file) in
        [("etcd_ca", &said.etcd_ca), ("etcd_cert", &said.etcd_cert), ("etcd_key", &said.etcd_key)]
    {
        if file.is_some() && with_tls == 0 && !endpoints.is_empty() {
            wrong(&["etcd", field], "certificates are for https://, and etcd is at http://");
        }
    }
    match (&said.etcd_cert, &said.etcd_key) {
        (Some(_), None) => wrong(&["etcd_key"], "the certificate for etcd needs its private key"),
        (None, Some(_)) => wrong(&["etcd_cert"], "the private key for etcd needs its certificate"),
        _ => {}
    }
    match (&said.etcd_user, &said.etcd_password_file) {
        (Some(_), None) => wrong(&["etcd_password_file"], "the user of etcd needs a password"),
        (None, Some(_)) => wrong(&["etcd_user"], "the password is for a user of etcd; say which"),
        _ => {}
    }
    if said.etcd_user.as_deref().is_some_and(|name| name.is_empty() || name.contains(char::is_control)) {
        wrong(&["etcd_user"], "this is no name of a user");
    }
}

/// Reads every file that is named, and writes nothing.
pub(super) fn check(said: &Cluster) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(identity(said).err());
    if let Some(file) = &said.etcd_ca {
        let roots = TrustConfig::with_roots_of(file);
        problems.extend(roots.err().map(|error| Problem::about(&["etcd_ca"], error)));
    }
    if let Some(files) = etcd_certificate(said) {
        let pair = Certificate::from_files(&files.certificate, &files.key);
        problems.extend(pair.err().map(|error| Problem::about(&["etcd_cert", "etcd_key"], error)));
    }
    if let Some(user) = etcd_user(said) {
        let password = user.password();
        problems.extend(password.err().map(|error| Problem::about(&["etcd_password_file"], error)));
    }
    problems
}

/// The relay's place in a cluster, if it has one.
pub(super) fn load(said: &Cluster) -> Result<Option<ClusterConfig>, Problem> {
    let Some(identity) = identity(said)? else { return Ok(None) };
    Ok(Some(ClusterConfig {
        identity,
        listen: listen(said),
        address: said.cluster_address.clone(),
        relay_url: said.relay_url.clone(),
        forwards_packets: said.cluster_forward_packets.unwrap_or(true),
        etcd: EtcdConfig {
            endpoints: said.etcd.clone().unwrap_or_default(),
            prefix: said.etcd_prefix.clone().unwrap_or_default(),
            ca: said.etcd_ca.clone(),
            certificate: etcd_certificate(said),
            user: etcd_user(said),
        },
    }))
}

fn identity(said: &Cluster) -> Result<Option<ClusterIdentity>, Problem> {
    let identity = said.cluster_dir.as_deref().map(ClusterIdentity::load).transpose();
    identity.map_err(|error| Problem::about(&["cluster_dir"], error))
}

fn listen(said: &Cluster) -> SocketAddr {
    // Without a command line there is no default.
    said.cluster_listen.unwrap_or(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), LISTEN_PORT))
}

fn etcd_certificate(said: &Cluster) -> Option<CertificateFiles> {
    let (certificate, key) = said.etcd_cert.clone().zip(said.etcd_key.clone())?;
    Some(CertificateFiles { certificate, key })
}

fn etcd_user(said: &Cluster) -> Option<EtcdUser> {
    let (name, password_file) = said.etcd_user.clone().zip(said.etcd_password_file.clone())?;
    Some(EtcdUser { name, password_file })
}

#[cfg(test)]
mod tests;
