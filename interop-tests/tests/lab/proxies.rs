//! Where an HTTP proxy with a password is the only way out.

use anyhow::Result;
use converge_interop_tests::{Agent, Lab, process::run};

in_a_lab! { job HttpProxy, laptop HttpProxy: proxy_with_a_password_leads_to_the_relay }

fn proxy_with_a_password_leads_to_the_relay(lab: &Lab) -> Result<()> {
    let relay = lab.start_relay()?;
    let (job, laptop) = (lab.job().proxy()?, lab.laptop().proxy()?);
    let no_arguments: &[&str] = &[];
    let agent = lab.start_agent_with(&relay, no_arguments, &[("HTTPS_PROXY", &job.url())])?;
    let ssh = |proxy: &str| {
        let mut ssh = lab.openssh("ssh", &agent)?;
        lab.laptop().run(ssh.env("HTTPS_PROXY", proxy).arg("echo in"), b"")
    };
    assert_eq!(ssh(&laptop.url())?.success()?.text(), "in\n");
    let traffic = lab.laptop().uplink().traffic();
    assert_eq!(traffic.udp_packets, 0);
    for wrong in [laptop.url_with_wrong_password(), laptop.url_without_password()] {
        let refused = ssh(&wrong)?;
        assert_eq!(refused.status.code(), Some(4), "{}", refused.stderr);
        assert!(refused.stderr.contains("user name and password (HTTP status 407)"), "{}", refused.stderr);
        assert!(!refused.stderr.contains(":wrong@"), "it is not shown: {}", refused.stderr);
    }
    // The same words for whoever reads the job's log.
    let mut agent = Agent::command(&lab.job_directory(), &relay.url)?;
    agent.env("HTTPS_PROXY", job.url_with_wrong_password());
    let refused = lab.job().enter(|| run(&mut agent, b""))?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("user name and password (HTTP status 407)"), "{}", refused.stderr);
    Ok(())
}
