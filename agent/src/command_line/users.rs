//! Who may log in.

use crate::{
    AgentDir,
    users::{GITHUB, GITLAB, ListSource, Users, UsersConfig},
};
use anyhow::{Context, bail};
use clap::Args;
use converge_transport::ProxyChoice;
use std::path::{Path, PathBuf};

/// Who may log in.
#[derive(Args, Debug)]
#[command(next_help_heading = "Who may log in")]
pub struct UserArguments {
    /// Who may log in: files in OpenSSH's authorized_keys format, read afresh at every login
    #[arg(long, env = "CONVERGE_AUTHORIZED_KEYS", value_name = "FILE", default_value = ".authorized_keys")]
    pub authorized_keys: Vec<PathBuf>,
    /// Lets in who has a key of this GitHub user; may be given more than once
    #[arg(long, env = "CONVERGE_GITHUB_USER", value_name = "NAME", value_delimiter = ',')]
    pub github_user: Vec<String>,
    /// Lets in who has a key of this GitLab user; may be given more than once
    #[arg(
        long,
        env = "CONVERGE_GITLAB_USER",
        hide_short_help = true,
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub gitlab_user: Vec<String>,
    /// The GitHub that is meant
    #[arg(long, env = "CONVERGE_GITHUB_URL", hide_short_help = true, value_name = "URL", default_value = GITHUB)]
    pub github_url: String,
    /// The GitLab that is meant
    #[arg(long, env = "CONVERGE_GITLAB_URL", hide_short_help = true, value_name = "URL", default_value = GITLAB)]
    pub gitlab_url: String,
    /// Lets in whose key is on this list, in the format of a file; https:// only. May be given more than once
    #[arg(
        long,
        env = "CONVERGE_AUTHORIZED_KEYS_URL",
        hide_short_help = true,
        value_name = "URL",
        hide_env_values = true
    )]
    pub authorized_keys_url: Vec<String>,
    /// Lets in who has an OpenSSH user certificate that was signed with one of the keys in this file; see --principals
    #[arg(long, env = "CONVERGE_TRUSTED_USER_CA", hide_short_help = true, value_name = "FILE")]
    pub trusted_user_ca: Vec<PathBuf>,
    /// Certificates have to name one of these principals; without it the user name that ssh is given, so that any will do
    #[arg(
        long,
        env = "CONVERGE_PRINCIPALS",
        hide_short_help = true,
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub principals: Vec<String>,
}

impl UserArguments {
    /// Everybody who may log in, or the reason why nobody could.
    ///
    /// Lists are fetched before it returns, which takes ten seconds at most.
    pub(super) async fn users(
        &self,
        directory: &AgentDir,
        working_dir: &Path,
        proxy: ProxyChoice,
    ) -> anyhow::Result<Users> {
        let config = self.sources(directory, working_dir, proxy)?;
        let (users, report) = Users::load(config).await;
        for problem in report.problems() {
            tracing::debug!(%problem, "users");
        }
        if !report.is_anybody() {
            bail!("{report}");
        }
        // Others can log in meanwhile; lists are tried again, and files read again.
        for problem in report.warnings() {
            tracing::warn!(%problem, "some users cannot log in yet");
        }
        if report.lets_in_any_principal() {
            tracing::warn!(
                "without --principals, everybody with a certificate of a trusted authority may log in: a person may give \
                 ssh any user name"
            );
        }
        tracing::info!(keys = report.keys(), authorities = report.authorities(), "who may log in");
        Ok(users)
    }

    fn sources(
        &self,
        directory: &AgentDir,
        working_dir: &Path,
        proxy: ProxyChoice,
    ) -> anyhow::Result<UsersConfig> {
        // Files are read again at every login, and the working directory may be gone by then.
        let absolute = |files: &[PathBuf]| files.iter().map(|file| working_dir.join(file)).collect();
        let mut files: Vec<PathBuf> = absolute(&self.authorized_keys);
        let mut later_files = Vec::new();
        // A directory that was made just now can only be filled later; nobody is to be sent there in vain.
        let place = if directory.is_temporary() { &mut later_files } else { &mut files };
        place.push(directory.path().join(".authorized_keys"));
        Ok(UsersConfig {
            files,
            later_files,
            lists: self.lists()?,
            trusted_user_ca: absolute(&self.trusted_user_ca),
            principals: self.principals()?,
            proxy,
            ..UsersConfig::default()
        })
    }

    /// URLs are read here and not by clap, whose error would show what was typed, and that may have a password in it.
    fn lists(&self) -> anyhow::Result<Vec<ListSource>> {
        let mut lists = Vec::new();
        for name in &self.github_user {
            lists.push(ListSource::github(&self.github_url, name).context("cannot use --github-user")?);
        }
        for name in &self.gitlab_user {
            lists.push(ListSource::gitlab(&self.gitlab_url, name).context("cannot use --gitlab-user")?);
        }
        for url in &self.authorized_keys_url {
            lists.push(ListSource::url(url).context("cannot use --authorized-keys-url")?);
        }
        Ok(lists)
    }

    fn principals(&self) -> anyhow::Result<Option<Vec<String>>> {
        if self.principals.iter().any(|name| name.trim().is_empty()) {
            bail!("cannot use --principals: expected names with commas between them");
        }
        let names: Vec<_> = self.principals.iter().map(|name| name.trim().to_owned()).collect();
        Ok((!names.is_empty()).then_some(names))
    }
}
