//! Several agents on one relay.

use anyhow::Result;
use converge_interop_tests::{Agent, Setup, files, process::run};
use std::{fs, thread};

on_both_carriers! { sessions_of_two_agents_do_not_mix }

const TRANSFER_BYTES: u64 = 10_000_000;

fn sessions_of_two_agents_do_not_mix(setup: &mut Setup) -> Result<()> {
    let job = setup.new_job("second")?;
    let second = Agent::start_as("second", &mut setup.agent_command(&job)?, setup.path())?;
    assert_ne!(second.id, setup.agent.id);
    assert_ne!(second.fingerprint(), setup.agent.fingerprint());
    for (number, job) in [(1, &setup.job()), (2, &job)] {
        fs::write(job.join("number"), number.to_string())?;
        files::write_random(&job.join("data"), TRANSFER_BYTES + number)?;
    }

    let mut sessions = Vec::new();
    for _ in 0..3 {
        for (number, address, job) in
            [(b'1', &setup.agent.address, setup.job()), (b'2', &second.address, job.clone())]
        {
            let mut ssh = setup.openssh_to("ssh", address)?;
            ssh.arg("cat number data");
            sessions.push(thread::spawn(move || -> Result<()> {
                let output = run(&mut ssh, b"")?.success()?;
                assert_eq!(output.stdout.first(), Some(&number));
                assert_eq!(files::sha256_of(&output.stdout[1..]), files::sha256(&job.join("data"))?);
                Ok(())
            }));
        }
    }
    for session in sessions {
        session.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }

    // The end of one is not the end of the other.
    drop(second);
    run(setup.openssh("ssh")?.arg("true"), b"")?.success()?;
    Ok(())
}
