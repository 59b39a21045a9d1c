//! Ansible, through ssh with the block of `converge config`: what it does to a job is done by Python in the job.

use anyhow::Result;
use converge_interop_tests::{
    Setup, files,
    process::{Output, run},
    programs,
};
use std::{fs, process::Command};

on_both_carriers! { job_is_a_host_of_an_inventory }

const PLAYBOOK: &str = r#"
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {src: "{{ here }}/large", dest: "{{ there }}/copy", mode: "0640"}
    - ansible.builtin.command: {cmd: "sh -c 'pwd; echo err >&2; exit 7'"}
      register: ended
      failed_when: ended.rc != 7 or ended.stderr != "err" or ended.stdout != there
    - ansible.builtin.fetch: {src: "{{ there }}/copy", dest: "{{ here }}/back", flat: true}
"#;

/// A program of Ansible's that knows nothing of this machine's settings.
fn ansible(setup: &Setup, program: &str, arguments: &[&str]) -> Result<Output> {
    let own = setup.path().join("ansible");
    let mut command = Command::new(programs::from_pypi(program)?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ANSIBLE_")) {
        command.env_remove(name);
    }
    command
        .current_dir(setup.path())
        .env("ANSIBLE_CONFIG", own.join("ansible.cfg"))
        .env("ANSIBLE_HOME", &own)
        .env("ANSIBLE_REMOTE_TEMP", setup.path().join("ansible-there"))
        .env("ANSIBLE_SSH_CONTROL_PATH", own.join("control"))
        .env("LC_ALL", "C.UTF-8")
        .args(["-i", "ansible/inventory"])
        .args(arguments);
    run(&mut command, b"")
}

fn job_is_a_host_of_an_inventory(setup: &mut Setup) -> Result<()> {
    let (config, here, there) = (setup.ssh_config()?, setup.path().to_owned(), setup.job().canonicalize()?);
    let own = here.join("ansible");
    fs::create_dir(&own)?;
    fs::write(own.join("ansible.cfg"), "[defaults]\nnocolor = true\n")?;
    fs::write(own.join("playbook.yml"), PLAYBOOK)?;
    let host = format!(
        "{} ansible_ssh_common_args='-F \"{}\"' ansible_python_interpreter={}\n",
        setup.host(),
        config.display(),
        programs::from_pypi("python")?.canonicalize()?.display()
    );
    fs::write(own.join("inventory"), host)?;
    files::write_random(&here.join("large"), 1_000_003)?;

    let output = ansible(setup, "ansible", &["all", "-m", "ping"])?.success()?;
    assert!(
        output.text().contains("SUCCESS") && output.text().contains(r#""ping": "pong""#),
        "{}",
        output.text()
    );

    let (here_is, there_is) = (format!("here={}", here.display()), format!("there={}", there.display()));
    let play = ["ansible/playbook.yml", "-e", &here_is, "-e", &there_is];
    ansible(setup, "ansible-playbook", &play)?.success()?;
    let wanted = files::sha256(&here.join("large"))?;
    assert_eq!(files::sha256(&there.join("copy"))?, wanted);
    assert_eq!(files::sha256(&here.join("back"))?, wanted);
    // Its connection stays open for a minute, unless it has ended with Ansible.
    let mut ssh = Command::new(programs::installed("ssh")?);
    ssh.args(["-F", "none", "-O", "exit", "-S"]).arg(own.join("control")).arg("job");
    run(&mut ssh, b"")?;
    setup.wait_for_the_end_of_sessions()
}
