//! Looking names up without the system's resolver, from the two files that every Linux system has: `/etc/hosts` first,
//! then the name servers of `/etc/resolv.conf` with its search list and options.
//!
//! Both are read again for every name, so that a network that changes is noticed; what was answered is not kept.
//! `/etc/nsswitch.conf` is not looked at, so what only plug-ins of glibc know (mDNS, NIS) is not found.

use hickory_resolver::{
    Hosts, Resolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// See [`lookup`](super::lookup).
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found = ip_addresses(host).await?;
    // The system's resolver weighs more (RFC 6724); what costs time is an address to which no way leads from here.
    found.sort_by_key(|address| !has_route(*address));
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

async fn ip_addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if is_localhost(host) {
        return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    // A name may have an underscore in it, which a host's name may not.
    let name = Name::from_str_relaxed(host)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a host"))?;
    let listed = Hosts::from_system().map(|hosts| in_hosts_file(&hosts, &name)).unwrap_or_default();
    if listed.is_empty() { from_name_servers(name).await } else { Ok(listed) }
}

/// RFC 6761 section 6.3: no name server is asked about these.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Of either family: a name that is listed with one is not asked for with the other.
fn in_hosts_file(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let lists = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
    lists
        .flat_map(|list| list.answers().iter().filter_map(|record| address(&record.data)).collect::<Vec<_>>())
        .collect()
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

async fn from_name_servers(name: Name) -> io::Result<Vec<IpAddr>> {
    let (config, options) = read_system_conf().map_err(|error| {
        io::Error::other(format!("no name server is known from /etc/resolv.conf: {error}"))
    })?;
    addresses(config, options, name).await
}

async fn addresses(config: ResolverConfig, mut options: ResolverOpts, name: Name) -> io::Result<Vec<IpAddr>> {
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(io::Error::other)?;
    match resolver.lookup_ip(name).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) => Err(io::Error::other(words(&error))),
    }
}

/// What the name servers' answer, or silence, means.
fn words(error: &NetError) -> String {
    match error {
        _ if error.is_nx_domain() => "there is no such name".to_owned(),
        _ if error.is_no_records_found() => "the name has no address".to_owned(),
        NetError::Timeout | NetError::NoConnections => "the name server does not answer".to_owned(),
        NetError::Io(error) => format!("the name server cannot be asked: {error}"),
        error => format!("the name server's answer is of no use: {error}"),
    }
}

/// Whether packets to an address would leave this host. Sends none.
fn has_route(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Any port: the discard service's.
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::NameServerConfig;
    use std::time::Duration;
    use tokio::net::UdpSocket as AsyncUdpSocket;

    #[tokio::test]
    async fn addresses_and_localhost_need_no_file_and_no_server() {
        assert_eq!(lookup("127.0.0.1", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(lookup("::1", 7).await.unwrap(), ["[::1]:7".parse().unwrap()]);
        for name in ["localhost", "LocalHost.", "relay.localhost"] {
            let found = lookup(name, 7).await.unwrap();
            assert!(found.contains(&"127.0.0.1:7".parse().unwrap()), "{name}: {found:?}");
        }
        assert!(lookup("two words..", 7).await.is_err());
    }

    #[test]
    fn the_hosts_file_answers_with_every_address_of_a_name() {
        let mut hosts = Hosts::default();
        let file = "192.0.2.1 relay.example relay # a comment\n2001:db8::1 Relay.Example\n192.0.2.2 other\n";
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        let of = |name| in_hosts_file(&hosts, &Name::from_str_relaxed(name).unwrap());
        let both: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        assert_eq!(of("relay.example"), both);
        assert_eq!(of("RELAY.example"), both);
        assert_eq!(of("relay"), both[1..]);
        assert_eq!(of("elsewhere"), [] as [IpAddr; 0]);
    }

    #[tokio::test]
    async fn a_name_server_that_says_nothing_or_is_not_there_is_said_so() {
        let silent = AsyncUdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut server = NameServerConfig::udp(silent.local_addr().unwrap().ip());
        for connection in &mut server.connections {
            connection.port = silent.local_addr().unwrap().port();
        }
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut options = ResolverOpts::default();
        (options.timeout, options.attempts) = (Duration::from_millis(50), 1);
        let name = Name::from_str_relaxed("relay.example.").unwrap();
        let error = addresses(config, options.clone(), name.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "the name server does not answer");
        let none = ResolverConfig::from_parts(None, vec![], vec![]);
        assert!(addresses(none, options, name).await.is_err());
    }
}
