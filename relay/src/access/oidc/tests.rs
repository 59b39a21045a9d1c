//! Tokens that are signed with a real key, and what becomes of them.

use super::{
    entry::{OidcEntry, TrustedIssuer},
    *,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::sync::Arc;

const ISSUER: &str = "https://ci.example";
const AUDIENCE: &str = "https://relay.example";

/// An issuer with one key.
struct Signer {
    pair: Vec<u8>,
    public: String,
}

impl Signer {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        let public = Ed25519KeyPair::from_pkcs8(&pair).unwrap().public_key().as_ref().to_vec();
        Self { pair, public: data_encoding::BASE64URL_NOPAD.encode(&public) }
    }

    fn sign(&self, claims: &Value) -> Token {
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &EncodingKey::from_ed_der(&self.pair)).unwrap().parse().unwrap()
    }

    fn jwk(&self) -> jsonwebtoken::jwk::Jwk {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "x": self.public});
        serde_json::from_value(key).unwrap()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

fn claims(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "job 7", "team": "a",
        "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_300,
    });
    change(claims.as_object_mut().unwrap());
    claims
}

fn entry(text: &str) -> Arc<TrustedIssuer> {
    let entry: OidcEntry = toml::from_str(&format!("issuer = '{ISSUER}'\n{text}")).unwrap();
    Arc::new(TrustedIssuer::new(entry, Some(AUDIENCE)).unwrap())
}

async fn check(entries: &[Arc<TrustedIssuer>], signer: &Signer, token: &Token) -> Result<Grant, String> {
    let settings = AccessSettings { issuers: entries.to_vec(), ..AccessSettings::default() };
    let keys = IssuerKeys::with(&entries[0].keys, vec![signer.jwk()]);
    let grant = verify(&settings, &keys, token, Scope::Agent, now()).await;
    grant.map_err(|refusal| refusal.to_string())
}

#[tokio::test]
async fn right_tokens_are_let_in_with_their_claims() {
    let signer = Signer::new();
    let entries = [entry("claims = { team = ['a', 'b'] }\nid = 'team-{team}-*'")];
    let token = signer.sign(&claims(|_| {}));
    let grant = check(&entries, &signer, &token).await.unwrap();
    let kept = grant.claims.unwrap();
    assert_eq!((kept.get("sub"), kept.get("team"), kept.get("exp")), (Some("job 7"), Some("a"), None));
    assert_eq!(grant.ids.unwrap().to_string(), "team-a-*");
    let several = signer.sign(&claims(|claims| _ = claims.insert("aud".to_owned(), json!(["x", AUDIENCE]))));
    assert!(check(&entries, &signer, &several).await.is_ok());
}

#[tokio::test]
async fn each_mistake_has_its_reason() {
    let signer = Signer::new();
    let entries = [entry("claims = { team = 'a' }")];
    let with = |name: &'static str, value: Value| {
        signer.sign(&claims(move |claims| _ = claims.insert(name.to_owned(), value)))
    };
    for (name, value, reason) in [
        (
            "aud",
            json!("https://other"),
            "wrong audience: the token is for https://other, this relay wants https://relay",
        ),
        ("aud", json!([]), "for nobody"),
        ("iss", json!("https://ci.example/"), "issuer https://ci.example/ is not trusted here"),
        ("exp", json!(1_799_999_820), "expired 3 minutes ago"),
        ("exp", json!(1_799_999_940.0), "expired 60 seconds ago"),
        ("exp", json!("never"), "does not say when it expires"),
        ("nbf", json!(1_800_000_100), "good only in 100 seconds"),
        ("iat", json!(1_800_000_061), "good only in 61 seconds"),
        ("team", json!("c"), "takes no job whose team is c"),
        ("team", json!(null), "takes no job whose team is missing"),
    ] {
        let refusal = check(&entries, &signer, &with(name, value.clone())).await.unwrap_err();
        assert!(refusal.contains(reason), "{name} {value}: {refusal}");
    }
    for (name, value) in [("exp", json!(1_799_999_941)), ("nbf", json!(1_800_000_060)), ("iat", json!(null))]
    {
        let grant = check(&entries, &signer, &with(name, value)).await;
        assert!(grant.is_ok(), "within the leeway: {name} {grant:?}");
    }
}

#[tokio::test]
async fn signatures_of_others_and_without_a_secret_key_are_refused() {
    let signer = Signer::new();
    let entries = [entry("")];
    let refusal = check(&entries, &signer, &Signer::new().sign(&claims(|_| {}))).await.unwrap_err();
    assert!(refusal.contains("signature is not that of"), "{refusal}");
    // The public key as a shared secret, and none at all.
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let shared = EncodingKey::from_secret(signer.public.as_bytes());
    let token = encode(&header, &claims(|_| {}), &shared).unwrap().parse().unwrap();
    let refusal = check(&entries, &signer, &token).await.unwrap_err();
    assert!(refusal.contains("signed with HS256"), "{refusal}");
    let part = |value: Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let none = format!("{}.{}.", part(json!({"alg": "none"})), part(claims(|_| {})));
    let refusal = check(&entries, &signer, &none.parse().unwrap()).await.unwrap_err();
    assert!(refusal.contains("cannot be decoded"), "{refusal}");
    let token = signer.sign(&claims(|_| {}));
    let changed = token.secret().replacen('.', ".e", 1).parse().unwrap();
    assert!(check(&entries, &signer, &changed).await.is_err());
}

#[tokio::test]
async fn of_several_entries_one_is_enough_and_the_nearest_tells_why_not() {
    let signer = Signer::new();
    let a = entry("claims = { team = 'a' }\nid = 'a-*'");
    let b = entry("claims = { team = 'b' }\nid = 'b-*'");
    let elsewhere = entry("audience = 'x'");
    let token = |team: &str| {
        let team = team.to_owned();
        signer.sign(&claims(|claims| _ = claims.insert("team".to_owned(), json!(team))))
    };
    let entries = [elsewhere, a, b];
    let grant = check(&entries, &signer, &token("b")).await.unwrap();
    assert_eq!(grant.ids.unwrap().to_string(), "b-*");
    let refusal = check(&entries, &signer, &token("c")).await.unwrap_err();
    assert!(refusal.contains("team is c"), "{refusal}");
}
