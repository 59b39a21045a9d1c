//! An issuer of OpenID Connect tokens on loopback, as CI systems have one: discovery, keys, signatures with real keys, and
//! GitHub's way of giving a job its token.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use converge_certs::Identity;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What GitHub's runner has in `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
pub(super) const RUNNER_TOKEN: &str = "runner-secret";

/// A running issuer. Its thread ends with the test's process.
pub(super) struct Issuer {
    /// `https://localhost:PORT`
    pub(super) url: String,
    /// What those must trust who ask it.
    pub(super) certificate: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What it signs with.
    key: Key,
    /// What it lists besides.
    older: Vec<Key>,
    /// It hangs up on everybody.
    is_away: bool,
    connections: usize,
    /// What `/token` signs, but for the audience.
    claims: Value,
    /// Paths that were asked for.
    asked: Vec<String>,
}

struct Key {
    id: String,
    private: EncodingKey,
    modulus: String,
}

impl Key {
    fn generate(id: &str) -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der()?;
        // Of this size both wrappers always have this length: PKCS #8 around PKCS #1, and RSAPublicKey (RFC 8017,
        // appendix A.1.1) around the modulus.
        let private = pkcs8.as_ref().get(26..).context("a private key")?;
        let modulus = pair.public_key().as_ref().get(9..265).context("a public key")?;
        Ok(Self {
            id: id.to_owned(),
            private: EncodingKey::from_rsa_der(private),
            modulus: BASE64URL_NOPAD.encode(modulus),
        })
    }
}

impl Issuer {
    /// Starts one with its certificate in `directory`.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        converge_certs::install_provider();
        std::fs::create_dir_all(directory)?;
        let identity = Identity::self_signed(directory, &["localhost".to_owned()])?;
        let config = Arc::new(identity.server_config(&[])?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let state = Arc::new(Mutex::new(State {
            key: Key::generate("first")?,
            older: Vec::new(),
            is_away: false,
            connections: 0,
            claims: json!({}),
            asked: Vec::new(),
        }));
        let (server_state, server_url) = (state.clone(), url.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut state = server_state.lock().unwrap_or_else(PoisonError::into_inner);
                state.connections += 1;
                if state.is_away {
                    continue;
                }
                drop(state);
                let Ok(tls) = ServerConnection::new(config.clone()) else { return };
                // Who goes away, or does not trust us, is not the issuer's matter.
                let _ = answer(StreamOwned::new(tls, stream), &server_state, &server_url);
            }
        });
        Ok(Self { url, certificate: directory.join("certificate.pem"), state })
    }

    /// Claims as GitHub Actions makes them for a push to `main` of `octocat/hello`, changed by `change`.
    pub(super) fn claims(&self, change: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = json!({
            "iss": self.url,
            "aud": "https://relay.example",
            "sub": "repo:octocat/hello:ref:refs/heads/main",
            "iat": now, "nbf": now - 5, "exp": now + 300,
            "repository": "octocat/hello",
            "repository_owner": "octocat",
            "repository_owner_id": "583231",
            "repository_visibility": "public",
            "ref": "refs/heads/main",
            "event_name": "push",
            "run_id": "4711",
            "actor": "octocat",
        });
        if let (Some(claims), Some(change)) = (claims.as_object_mut(), change.as_object()) {
            claims.extend(change.clone());
        }
        claims
    }

    /// A signed token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        sign(&self.state.lock().unwrap_or_else(PoisonError::into_inner).key, claims)
    }

    /// What `/token` signs from now on.
    pub(super) fn offer(&self, claims: Value) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).claims = claims;
    }

    /// Signs with another key from now on, and lists the old one as long as nothing else is said.
    pub(super) fn take_another_key(&self, id: &str) -> Result<()> {
        let key = Key::generate(id)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut state.key, key);
        state.older.push(old);
        Ok(())
    }

    /// Hangs up on everybody from now on.
    pub(super) fn go_away(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_away = true;
    }

    /// Connections that there were.
    pub(super) fn connections(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// How often a path was asked for.
    pub(super) fn asked_for(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.iter().filter(|asked| asked.starts_with(path)).count()
    }
}

fn sign(key: &Key, claims: &Value) -> Result<String> {
    let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::RS256) };
    Ok(encode(&header, claims, &key.private)?)
}

/// One request, one answer.
fn answer(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    state: &Mutex<State>,
    url: &str,
) -> Result<()> {
    stream.sock.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut reader = BufReader::new(&mut stream);
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "no request");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let has_runner_token =
        head.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: bearer {RUNNER_TOKEN}")));
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let body = match path.split('?').next().unwrap_or_default() {
        "/.well-known/openid-configuration" => {
            Some(json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
        }
        "/keys" => {
            let listed = state.older.iter().chain([&state.key]).map(|Key { id, modulus, .. }| {
                json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": modulus, "e": "AQAB"})
            });
            let strange = json!({"kty": "of a kind", "that": "nobody knows"});
            Some(json!({"keys": listed.chain([strange]).collect::<Vec<_>>()}))
        }
        "/token" if has_runner_token => {
            let audience = path.split("audience=").nth(1).unwrap_or_default();
            let audience = audience.replace("%3A", ":").replace("%2F", "/");
            let mut claims = state.claims.clone();
            claims["aud"] = Value::from(audience);
            Some(json!({"value": sign(&state.key, &claims)?}))
        }
        _ => None,
    };
    state.asked.push(path);
    drop(state);
    let (status, body) = match body {
        Some(body) => ("200 OK", body.to_string()),
        None => ("403 Forbidden", String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
