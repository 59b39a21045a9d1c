//! An HTTP proxy that asks for a password: Apache, of which Debian has a package that starts no service. (Tinyproxy
//! answers a wrong password with 401 instead of 407, so it cannot stand for others.)

use super::{host::LAN_ROUTER, namespace::Namespace};
use crate::{
    process::{Process, eventually},
    programs,
};
use anyhow::Result;
use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};
use tempfile::TempDir;

/// Where Debian has the modules.
const MODULES: &str = "/usr/lib/apache2/modules";
const PORT: u16 = 8888;
const USER: &str = "worker";
const PASSWORD: &str = "correct-horse";
/// The base64 of the SHA-1 of the password, as `htpasswd -s` writes it.
const PASSWORD_HASH: &str = "NstYn3QVe0WBGmkMWLQ0CV9I6fo=";

/// A running proxy, which lets CONNECT through to any port for those who know the password.
#[derive(Debug)]
pub struct HttpProxy {
    /// Before the network, so that it is ended first; behind a lock, so that a lab can be used from several threads.
    process: Mutex<Process>,
    _namespace: Namespace,
    _files: TempDir,
}

impl HttpProxy {
    /// Starts one on a host that has both devices.
    pub(super) fn start(namespace: Namespace, name: &str, directory: &Path) -> Result<Self> {
        // Apache gives up its rights before it reads them, and the lab's directory is nobody else's.
        let readable = fs::Permissions::from_mode(0o755);
        let files = tempfile::Builder::new().prefix("converge-lab-proxy-").permissions(readable).tempdir()?;
        let (users, configuration) = (files.path().join("users"), files.path().join("configuration"));
        fs::write(&users, format!("{USER}:{{SHA}}{PASSWORD_HASH}\n"))?;
        fs::write(&configuration, configure(&users, &files.path().join("pid")))?;
        let mut command = Command::new(programs::installed("apache2")?);
        command.args(["-D", "FOREGROUND", "-f"]).arg(&configuration);
        let process = namespace.enter(|| {
            let process = Process::start(name, &mut command, directory)?;
            eventually("the proxy to listen", || TcpStream::connect((LAN_ROUTER, PORT)).ok())?;
            Ok(process)
        })?;
        Ok(Self { process: Mutex::new(process), _namespace: namespace, _files: files })
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).log()
    }

    /// What `HTTPS_PROXY` has to say.
    pub fn url(&self) -> String {
        Self::url_with(PASSWORD)
    }

    /// The same, with a password that the proxy does not know.
    pub fn url_with_wrong_password(&self) -> String {
        Self::url_with("wrong")
    }

    /// The same, without user and password.
    pub fn url_without_password(&self) -> String {
        format!("http://{LAN_ROUTER}:{PORT}")
    }

    fn url_with(password: &str) -> String {
        format!("http://{USER}:{password}@{LAN_ROUTER}:{PORT}")
    }
}

fn configure(users: &Path, pid: &Path) -> String {
    let modules = [
        "mpm_event",
        "authn_core",
        "authn_file",
        "auth_basic",
        "authz_core",
        "authz_user",
        "proxy",
        "proxy_connect",
    ];
    let load = |module| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n");
    let load: String = modules.into_iter().map(load).collect();
    format!(
        "{load}\
         ServerName {LAN_ROUTER}\n\
         Listen {LAN_ROUTER}:{PORT}\n\
         User www-data\n\
         Group www-data\n\
         PidFile {pid}\n\
         ErrorLog /dev/stderr\n\
         LogLevel info\n\
         ProxyRequests On\n\
         ProxyTimeout 600\n\
         AllowCONNECT 1-65535\n\
         <Proxy *>\n\
         AuthType Basic\n\
         AuthName lab\n\
         AuthBasicProvider file\n\
         AuthUserFile {users}\n\
         Require valid-user\n\
         </Proxy>\n",
        pid = pid.display(),
        users = users.display(),
    )
}
