//! The door as a whole, with the relay's own tokens.

use super::*;
use converge_proto::rendezvous::RefusalCode;
use tokens::{Secret, StaticToken};

fn door(settings: AccessSettings) -> Access {
    let live = Live { access: Arc::new(settings), ..Live::default() };
    Access::new(watch::Sender::new(live).subscribe(), Duration::from_secs(10))
}

/// A token of an agent, and a relay that wants one of agents and clients.
fn one_token(ids: Option<IdPattern>) -> (String, AccessSettings) {
    let secret = Secret::generate([7; Secret::ENTROPY_BYTES]);
    let scopes = Scopes(vec![Scope::Agent]);
    let token = StaticToken { name: "ci".to_owned(), hash: secret.hash(), scopes, ids, expires: None };
    let settings = AccessSettings {
        agent_auth: Auth::Token,
        client_auth: Auth::Token,
        tokens: vec![token],
        ..AccessSettings::default()
    };
    (secret.into_text(), settings)
}

fn peer() -> IpAddr {
    IpAddr::from([192, 0, 2, 7])
}

fn bearer(token: &str) -> Credentials {
    Credentials::new(Some(token.parse().unwrap()))
}

#[tokio::test]
async fn nothing_is_asked_where_the_operator_asks_nothing() {
    let door = door(AccessSettings::default());
    for scope in [Scope::Agent, Scope::Client] {
        let grant = door.check(scope, &bearer("whatever"), peer()).await;
        assert_eq!(grant, Ok(Grant::default()), "{scope}");
    }
    for scope in [Scope::ApiRead, Scope::ApiWrite, Scope::Metrics, Scope::SessionsPage] {
        let refusal = door.check(scope, &Credentials::default(), peer()).await.unwrap_err();
        assert_eq!(refusal, Refusal::NoToken { scope });
    }
}

#[tokio::test]
async fn networks_come_before_tokens() {
    let networks = vec!["192.0.2.0/30".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let door = door(AccessSettings { client_networks: networks, ..AccessSettings::default() });
    let check = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let door = &door;
        async move { door.check(Scope::Client, &Credentials::default(), address).await }
    };
    assert!(check("192.0.2.3").await.is_ok());
    assert!(check("2001:db8:1::1").await.is_ok());
    let refusal = check("192.0.2.4").await.unwrap_err();
    assert!(refusal.to_string().contains("clients from 192.0.2.4"), "{refusal}");
    assert_eq!(refusal.code(), RefusalCode::FORBIDDEN);
    assert!(door.check(Scope::Agent, &Credentials::default(), peer()).await.is_ok(), "agents are not asked");
    assert_eq!(door.refused(), [(Scope::Client, "network", 1)]);
}

#[tokio::test]
async fn tokens_are_good_for_their_ids() {
    let id: Id = "nightly".parse().unwrap();
    let (token, settings) = one_token(Some(IdPattern::of(&id)));
    let door = door(settings);
    let grant = door.check(Scope::Agent, &bearer(&token), peer()).await.unwrap();
    assert_eq!(grant.only_id(), Some(id.clone()));
    assert_eq!(grant.generate_id(), id);
    assert!(grant.admit(&id).is_ok());
    let refusal = grant.admit(&"other".parse().unwrap()).unwrap_err();
    assert_eq!(refusal.to_string(), "the token is for nightly, and not for the ID other");
    let refusal = door.check(Scope::Client, &bearer(&token), peer()).await.unwrap_err();
    assert!(refusal.to_string().contains("for agent, and this needs client"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn right_tokens_are_not_slowed_by_wrong_ones_from_the_same_place() {
    let (right, settings) = one_token(None);
    let door = door(settings);
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        assert!(door.check(Scope::Agent, &bearer("cvg_wrong"), peer()).await.is_err());
    }
    let slowed = begun.elapsed();
    assert!(slowed >= Duration::from_secs(5), "{slowed:?}");
    let begun = tokio::time::Instant::now();
    assert!(door.check(Scope::Agent, &bearer(&right), peer()).await.is_ok());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for _ in 0..20 {
        assert!(door.check(Scope::Agent, &Credentials::default(), peer()).await.is_err());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "no token is no wrong token");
}
