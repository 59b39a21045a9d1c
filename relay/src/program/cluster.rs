//! `converge-relay cluster`: the files of a cluster, and what to do with them.

use crate::command_line::{ClusterCommand, InitCluster, JoinCluster};
use converge_certs::cluster::{self, ClusterError, Join};
use std::time::SystemTime;

/// Does what was asked for. Returns what to tell the operator.
pub(super) fn make(command: &ClusterCommand) -> Result<String, ClusterError> {
    match command {
        ClusterCommand::Init(init) => make_cluster(init),
        ClusterCommand::Join(join) => make_relay(join),
    }
}

fn make_cluster(init: &InitCluster) -> Result<String, ClusterError> {
    cluster::init(&init.dir, &init.names)?;
    let dir = init.dir.display();
    Ok(format!(
        "A cluster was made in {dir}.\n\
         Keep this directory, and keep it safe: who has {dir}/ca.key can be a relay of the cluster. No relay needs that \
         file; it is for making the files of more relays.\n\
         For each relay:\n\
         \x20   converge-relay cluster join --dir {dir} --number N --out relay-N\n"
    ))
}

fn make_relay(join: &JoinCluster) -> Result<String, ClusterError> {
    let JoinCluster { dir, number, out, again } = join;
    let how = if *again { Join::Again } else { Join::First };
    let identity = cluster::join(dir, *number, out, how, SystemTime::now())?;
    let (dir, out) = (dir.display(), out.display());
    let expires = humantime::format_rfc3339_seconds(identity.not_after()).to_string();
    // The day will do.
    let expires = expires.split('T').next().unwrap_or(&expires);
    Ok(format!(
        "The files of relay {number} were made in {out}; they are good until {expires}.\n\
         Copy the whole directory to the machine of that relay and to no other, such as to /etc/converge/cluster, where \
         only the relay's user may read it; then remove {out} here. Start the relay with\n\
         \x20   --cluster-dir /etc/converge/cluster --etcd URL --cluster-address HOST:PORT\n\
         {dir}/ca.key stays where it is: no relay needs it, only who makes the files of more relays.\n"
    ))
}
