//! A relay that is cut off from the other relays and from etcd, but not from its agents and clients, and what
//! docs/operating/cluster.md promises of it: an ID never has two owners.

use super::{
    talk::Talk,
    watch::{Watch, who},
};
use anyhow::{Result, ensure};
use converge_interop_tests::{
    Agent, Carrier, Lab,
    cluster::{Cluster, through},
    lab::ClusterLab,
    process::eventually,
};
use std::{fs, ops::Range, process::Command, thread, time::Instant};

in_a_lab! { job Direct, laptop Direct:
    cut_off_relay_shares_no_id_on_quic,
    cut_off_relay_shares_no_id_on_websocket,
}

/// Whose ID it is.
const OWNER: &str = "owner";
const ID: &str = "build";

fn cut_off_relay_shares_no_id_on_quic(lab: &Lab) -> Result<()> {
    cut_off_relay_shares_no_id(lab, Carrier::Quic)
}

fn cut_off_relay_shares_no_id_on_websocket(lab: &Lab) -> Result<()> {
    cut_off_relay_shares_no_id(lab, Carrier::WebSocket)
}

fn cut_off_relay_shares_no_id(lab: &Lab, carrier: Carrier) -> Result<()> {
    let begun = Instant::now();
    let cluster_lab = ClusterLab::start(lab, 3, [""; 0])?;
    let cluster = &cluster_lab.cluster;
    let jobs = Jobs { lab, carrier, cluster };
    let owner = jobs.start(OWNER, ID, 1)?;
    ensure!(owner.id == ID, "{}", owner.id);
    let watch = Watch::new(lab, carrier, [1, 2, 3].map(|relay| asking_for(ID, cluster.url(relay))));
    println!("cluster and owner are there after {:.1} s", begun.elapsed().as_secs_f64());
    let outage = thread::scope(|scope| {
        // They end also when the story breaks off.
        let _asking = watch.start(scope);
        play(&cluster_lab, &jobs, &owner, &watch)
    });
    // Before all else: it may be why the story broke off.
    watch.saw_only(OWNER)?;
    watch.judge(1, outage?)?;
    println!("all took {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The address of whoever has the ID, at this relay.
fn asking_for(id: &str, relay: &str) -> String {
    let (relay, pin) = relay.split_once('#').unwrap_or((relay, ""));
    format!("{relay}/client/{id}#{pin}")
}

/// Returns from when to when not everything was well.
fn play(
    cluster_lab: &ClusterLab,
    jobs: &Jobs<'_>,
    owner: &Agent,
    watch: &Watch<'_>,
) -> Result<Range<Instant>> {
    let Jobs { lab, carrier, cluster } = *jobs;
    let mut near = Talk::open(lab, carrier, "near", &through(owner, cluster.url(1)))?;
    let mut far = Talk::open(lab, carrier, "far", &through(owner, cluster.url(2)))?;
    for talk in [&mut near, &mut far] {
        talk.say()?;
        talk.hear()?;
    }
    watch.wait_for_answers_since(Instant::now())?;

    let cut = Instant::now();
    cluster_lab.cut_off(1);
    far.say()?;
    // One that comes anew to the relay that is alone, and rivals for the ID elsewhere: before the others have noticed …
    let mut newcomer = lab.job().start("newcomer", &mut jobs.command("newcomer", "new", 1)?)?;
    let at_once = jobs.start_rival("rival-at-once", 2)?;
    near.say()?;
    near.hear()?;
    for relay in [2, 3] {
        cluster.wait_until_it_knows(relay, 2)?;
        println!("relay {relay} knows {:.1} s after the cut", cut.elapsed().as_secs_f64());
    }
    // … and after that.
    let _later = jobs.start_rival("rival-later", 3)?;
    ensure!(jobs.who(&through(&at_once, cluster.url(3)))? == "rival-at-once", "the others go on");
    newcomer
        .wait_for_log("why it is refused", |log| log.contains("cannot ask its cluster who has which ID"))?;
    eventually("relay 1 to notice that etcd is away", || is_well(cluster, 1, 3).is_none().then_some(()))?;
    watch.wait_for_answers_since(Instant::now())?;
    far.say()?;
    near.say()?;
    near.hear()?;
    ensure!(newcomer.try_wait()?.is_none(), "it goes on trying");

    let healed = Instant::now();
    cluster_lab.heal(1);
    let mut well = [None; 3];
    eventually("every relay to know the others again", || {
        for (relay, well) in (1..).zip(&mut well) {
            *well = well.or_else(|| is_well(cluster, relay, 3).map(|()| healed.elapsed()));
        }
        well.iter().all(Option::is_some).then_some(())
    })?;
    for (relay, well) in (1..).zip(well.into_iter().flatten()) {
        println!("relay {relay} is well {:.1} s after healing", well.as_secs_f64());
    }
    newcomer.wait_for("a line to copy", |line| line.contains("/client/new.").then_some(()))?;
    println!("the newcomer has its ID {:.1} s after healing", healed.elapsed().as_secs_f64());
    far.hear()?;
    println!("the session over two relays goes on {:.1} s after healing", healed.elapsed().as_secs_f64());
    ensure!(jobs.who(&asking_for("new", cluster.url(2)))? == "newcomer");
    let all_well = Instant::now();
    watch.wait_for_answers_since(all_well)?;
    let _afterwards = jobs.start_rival("rival-afterwards", 1)?;
    println!(
        "the job has counted to {} in the session over two relays, to {} in the other",
        far.end()?,
        near.end()?
    );
    ensure!(lab.log("far").contains("back after"), "the cut was felt: {}", lab.log("far"));
    Ok(cut..all_well)
}

/// Whether a relay reaches etcd and knows so many relays, with itself.
fn is_well(cluster: &Cluster, relay: usize, relays: u64) -> Option<()> {
    let is = |name, value| cluster.metric_of(relay, name).is_ok_and(|metric| metric == value);
    (is("converge_cluster_registry_up", 1) && is("converge_cluster_relays", relays)).then_some(())
}

/// Where agents are, and how they are asked.
struct Jobs<'a> {
    lab: &'a Lab,
    carrier: Carrier,
    cluster: &'a Cluster,
}

impl Jobs<'_> {
    /// The command that starts an agent, in whose directory is a file with its name.
    fn command(&self, name: &str, id: &str, relay: usize) -> Result<Command> {
        let job = self.lab.new_job(name)?;
        fs::write(job.join("name"), name)?;
        let mut command = Agent::command(&job, self.cluster.url(relay))?;
        command.args(["--transport", &self.carrier.to_string(), "--id", id]);
        Ok(command)
    }

    fn start(&self, name: &str, id: &str, relay: usize) -> Result<Agent> {
        let mut command = self.command(name, id, relay)?;
        self.lab.job().enter(|| Agent::start_as(name, &mut command, self.lab.path()))
    }

    /// One that wants the owner's ID, and does not get it.
    fn start_rival(&self, name: &str, relay: usize) -> Result<Agent> {
        let rival = self.start(name, ID, relay)?;
        ensure!(rival.id != ID, "{name} has the ID, too: {}", rival.address);
        Ok(rival)
    }

    /// Who answers at this address.
    fn who(&self, address: &str) -> Result<String> {
        Ok(who(self.lab, self.carrier, address)?.success()?.text())
    }
}
