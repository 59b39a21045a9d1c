//! The login of one connection: which keys and certificates get in, and how long a wrong one takes.

use std::sync::Arc;
use std::time::SystemTime;

use russh::keys::{Certificate, HashAlg, PublicKey};
use russh::server::{PublicKeyOffer, VerifiedPublicKey};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::algorithms::is_accepted;
use super::connection::ConnectionLife;
use super::slow_down::{RecentFailures, delay_after};
use crate::users::authorized_keys::KeyOptions;
use crate::users::user::User;
use crate::users::{Allowed, Refusal, Users};

/// Somebody has logged in.
pub(super) struct LoggedIn {
    /// What they may do.
    pub(super) options: KeyOptions,
    /// Who it is.
    pub(super) user: User,
}

/// The attempts of one connection.
pub(super) struct Login {
    users: Users,
    failures: Arc<RecentFailures>,
    ended: CancellationToken,
    logged_in: CancellationToken,
    refused: u32,
    /// Has been made to wait for what other connections did.
    has_waited: bool,
}

impl Login {
    pub(super) fn new(shared: &Shared, life: &ConnectionLife) -> Self {
        Self {
            users: shared.users.clone(),
            failures: Arc::clone(&shared.failures),
            ended: life.ended.clone(),
            logged_in: life.logged_in.clone(),
            refused: 0,
            has_waited: false,
        }
    }

    /// Whether a signature with this key is worth asking for. Nobody has proved to own it yet.
    pub(super) async fn offered(&mut self, login: &str, offer: PublicKeyOffer<'_>) -> bool {
        self.wait().await;
        if !is_accepted(offer.algorithm) {
            debug!(user = login, algorithm = %offer.algorithm, "login refused: signature algorithm is too weak");
            self.refused += 1;
            return false;
        }
        let asking = self.users.is_worth_a_signature(offer.public_key, SystemTime::now());
        match self.ask(asking).await {
            Some(Ok(())) => true,
            Some(Err(refusal)) => {
                self.refuse(login, &fingerprint(offer.public_key), &refusal);
                false
            }
            None => false,
        }
    }

    /// The answer that counts. Asked again: that to the offer may be from a moment ago.
    pub(super) async fn with_key(&mut self, login: &str, key: VerifiedPublicKey<'_>) -> Option<LoggedIn> {
        let fingerprint = fingerprint(key.public_key);
        if !is_accepted(key.algorithm) {
            self.refused += 1;
            return None;
        }
        let answer = self.ask(self.users.find_key(key.public_key, SystemTime::now())).await?;
        self.answer(login, fingerprint, answer)
    }

    /// The signature algorithm was looked at when the key was offered, which always comes first.
    pub(super) async fn with_certificate(
        &mut self,
        login: &str,
        certificate: &Certificate,
    ) -> Option<LoggedIn> {
        let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256).to_string();
        let judging = self.users.judge_certificate(login, certificate, SystemTime::now());
        let answer = self.ask(judging).await?;
        self.answer(login, fingerprint, answer)
    }

    fn answer(&mut self, login: &str, key: String, answer: Result<Allowed, Refusal>) -> Option<LoggedIn> {
        match answer {
            Ok(Allowed { options, comment, source }) => {
                info!(user = login, %key, ?comment, %source, "login");
                let user = User { login: login.to_owned(), key, comment, source };
                Some(LoggedIn { options, user })
            }
            Err(refusal) => {
                self.refuse(login, &key, &refusal);
                None
            }
        }
    }

    fn refuse(&mut self, login: &str, key: &str, refusal: &Refusal) {
        self.refused += 1;
        debug!(user = login, %key, "login refused: no such key");
        // Only of keys that a source knows and does not let in; a stranger's key is not worth a line.
        for problem in &refusal.problems {
            warn!(user = login, %key, %problem, "login refused");
        }
    }

    /// Before each answer, right or wrong. Nobody is turned away for what others did.
    async fn wait(&mut self) {
        let mut delay = delay_after(self.refused);
        if !self.has_waited {
            self.has_waited = true;
            delay += self.failures.delay();
        }
        if !delay.is_zero() {
            debug!(?delay, "login slowed down");
            self.ended.run_until_cancelled(sleep(delay)).await;
        }
    }

    /// Sources may be slow, and a connection that ends does not wait for them.
    async fn ask<T>(&self, question: impl Future<Output = T>) -> Option<T> {
        self.ended.run_until_cancelled(question).await
    }
}

/// The connection has ended.
impl Drop for Login {
    fn drop(&mut self) {
        if self.refused > 0 && !self.logged_in.is_cancelled() {
            self.failures.note();
        }
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
