//! `converge-relay cluster`: the files of a cluster, and what to do with them.

use crate::command_line::{ClusterCommand, InitCluster, JoinCluster};
use converge_certs::cluster::{self, ClusterError, Join};
use std::time::SystemTime;

const WIDTH: usize = 100;
/// Before what is to be copied.
const INDENT: &str = "    ";
/// Where a relay may have its files.
const PLACE: &str = "/etc/converge/cluster";

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
    Ok(paragraphs(&[
        format!(
            "A cluster was made in {dir}. Keep this directory, and keep it safe: who has {dir}/ca.key can be a relay of \
             the cluster. No relay needs that file; it is for making the files of more relays."
        ),
        "For each relay:".to_owned(),
        format!("{INDENT}converge-relay cluster join --dir {dir} --number N --out relay-N"),
    ]))
}

fn make_relay(join: &JoinCluster) -> Result<String, ClusterError> {
    let JoinCluster { dir, number, out, again } = join;
    let how = if *again { Join::Again } else { Join::First };
    let identity = cluster::join(dir, *number, out, how, SystemTime::now())?;
    let (dir, out) = (dir.display(), out.display());
    let expires = humantime::format_rfc3339_seconds(identity.not_after()).to_string();
    // The day will do.
    let expires = expires.split('T').next().unwrap_or(&expires);
    Ok(paragraphs(&[
        format!("The files of relay {number} were made in {out}; they are good until {expires}."),
        format!(
            "Copy the whole directory to the machine of that relay and to no other, such as to {PLACE}, where only the \
             relay's user may read it. Then remove {out} here. Start the relay with"
        ),
        format!("{INDENT}--cluster-dir {PLACE} --etcd URL --cluster-address HOST:PORT"),
        format!(
            "{dir}/ca.key stays where it is: no relay needs it, only who makes the files of more relays."
        ),
    ]))
}

/// Wide enough for a line, but what is to be copied stays whole.
fn paragraphs(paragraphs: &[String]) -> String {
    let fill =
        |text: &String| if text.starts_with(INDENT) { text.clone() } else { textwrap::fill(text, WIDTH) };
    paragraphs.iter().map(|text| fill(text) + "\n").collect()
}
