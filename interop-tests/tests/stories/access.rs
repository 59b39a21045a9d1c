//! Who may use a relay: tokens of its own, tokens of CI systems, networks, and a relay that nobody has decided about.

mod issuer;

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Agent, Carrier, Process, Setup,
    process::{PATIENCE, eventually, run},
    programs,
};
use issuer::{Issuer, RUNNER_TOKEN};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

on_both_carriers! {
    tokens_let_in_whom_they_are_for,
    ci_tokens_are_let_in_or_refused_with_their_reason,
    github_job_gets_its_token_by_itself,
    networks_that_are_not_named_are_refused,
    relay_that_others_can_reach_wants_a_decision,
}

fn relay_program() -> Result<Command> {
    let mut command = Command::new(programs::own("converge-relay")?);
    converge_interop_tests::setup::clean(&mut command);
    Ok(command)
}

/// A further relay with these arguments.
fn relay(
    setup: &Setup,
    name: &str,
    arguments: &[&str],
    issuer: Option<&Issuer>,
) -> Result<(Process, String)> {
    let mut command = relay_program()?;
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state-dir"]);
    command.arg(setup.path().join(name)).args(arguments);
    if let Some(issuer) = issuer {
        command.env("SSL_CERT_FILE", &issuer.certificate);
    }
    let mut process = Process::start(name, &mut command, setup.path())?;
    let url = process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    Ok((process, url))
}

/// Makes a token in the file `tokens.toml`, as an operator does.
fn make_token(setup: &Setup, arguments: &[&str]) -> Result<String> {
    let mut command = relay_program()?;
    command.args(["token", "create", "--tokens-file"]).arg(setup.path().join("tokens.toml")).args(arguments);
    Ok(run(&mut command, b"")?.success()?.text().trim().to_owned())
}

fn agent(setup: &Setup, job: &str, relay: &str) -> Result<Command> {
    let mut command = Agent::command(&setup.job(), relay)?;
    command.args(["--transport", &setup.carrier.to_string(), "--id", job]);
    Ok(command)
}

/// What the agent says when the relay does not let it in.
fn refusal(command: &mut Command) -> Result<String> {
    let output = run(command, b"")?;
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    Ok(output.stderr)
}

fn tokens_let_in_whom_they_are_for(setup: &mut Setup) -> Result<()> {
    let agents = make_token(
        setup,
        &["--name", "ci", "--scope", "agent", "--id-pattern", "team-*", "--expires", "1d"],
    )?;
    let people = make_token(setup, &["--name", "people", "--scope", "client"])?;
    let over = make_token(setup, &["--name", "over", "--scope", "agent,client", "--expires", "0s"])?;
    let file = setup.path().join("tokens.toml");
    let kept = fs::read_to_string(&file)?;
    assert!(!kept.contains(&agents) && kept.contains("sha256"), "{kept}");
    let file = file.display().to_string();
    let arguments = ["--agent-auth", "token", "--client-auth", "token", "--tokens-file", &file];
    let (relay, url) = relay(setup, "guarded", &arguments, None)?;

    let without = refusal(&mut agent(setup, "team-a", &url)?)?;
    assert!(without.contains("wants a token of agents") && without.contains("CONVERGE_TOKEN"), "{without}");
    for (token, id, reason) in [
        ("cvg_wrong", "team-a", "does not know the token"),
        (&over, "team-a", "has expired"),
        (&people, "team-a", "is for client, and this needs agent"),
        (&agents, "other", "is for team-*, and not for the ID other"),
    ] {
        let refused = refusal(agent(setup, id, &url)?.env("CONVERGE_TOKEN", token))?;
        assert!(refused.contains(reason) && !refused.contains(token), "{refused}");
    }

    let token_file = setup.path().join("token");
    fs::write(&token_file, format!("{agents}\n"))?;
    let mut command = agent(setup, "team-a", &url)?;
    command.arg("--token-file").arg(&token_file).env("CONVERGE_TOKEN_CHECK", &agents);
    let allowed = Agent::start_as("allowed", &mut command, setup.path())?;
    assert_eq!(allowed.id, "team-a");
    assert!(!allowed.address.contains("cvg_"), "{}", allowed.address);
    let mut made_up = Agent::command(&setup.job(), &url)?;
    made_up.args(["--transport", &setup.carrier.to_string()]).env("CONVERGE_TOKEN", &agents);
    let made_up = Agent::start_as("made-up", &mut made_up, setup.path())?;
    assert!(made_up.id.starts_with("team-"), "{}", made_up.id);

    let session = |token: Option<&str>| -> Result<Command> {
        let mut ssh = setup.openssh_to("ssh", &allowed.address)?;
        if let Some(token) = token {
            ssh.env("CONVERGE_TOKEN", token);
        }
        Ok(ssh)
    };
    for (token, reason) in [
        (None, "wants a token of clients"),
        (Some("cvg_wrong"), "does not know"),
        (Some(agents.as_str()), "is for agent, and this needs client"),
    ] {
        let output = run(session(token)?.arg("true"), b"")?;
        assert_eq!(output.status.code(), Some(5), "{}", output.stderr);
        assert!(output.stderr.contains(reason), "{}", output.stderr);
    }
    let inside = run(session(Some(&people))?.arg("env"), b"")?.success()?.text();
    assert!(inside.contains("CONVERGE_ID=team-a"), "{inside}");
    assert!(!inside.contains(&agents) && !inside.contains(&people), "no token in the session: {inside}");

    // As a foreign tool: in the header, and not without it.
    let websocket = allowed.address.replacen("https://", "wss://", 1);
    let websocket = websocket.split('#').next().unwrap_or_default();
    let websocket = websocket.rsplit_once('.').map_or(websocket, |(before, _)| before);
    let raw = |token: Option<&str>| -> Result<Command> {
        let mut command = Command::new(programs::installed("websocat")?);
        command.args(["--binary", "-k", "-E"]).arg(match token {
            Some(token) => format!("{websocket}?token={token}"),
            None => websocket.to_owned(),
        });
        Ok(command)
    };
    let refused = run(&mut raw(None)?, b"")?;
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{}", refused.stderr);
    let mut foreign = Process::start_with_input("foreign", &mut raw(Some(&people))?, setup.path())?;
    foreign.wait_for("SSH's greeting", |line| line.starts_with("SSH-2.0-").then_some(()))?;
    drop(foreign);

    // What is taken out of the file is good no more, and who is in stays in.
    let withdrawn = kept.split("[[tokens]]").filter(|entry| !entry.contains("people"));
    fs::write(&file, withdrawn.collect::<Vec<_>>().join("[[tokens]]"))?;
    eventually("the token to be withdrawn", || {
        let output = run(session(Some(&people)).ok()?.arg("true"), b"").ok()?;
        output.stderr.contains("does not know the token").then_some(())
    })?;
    assert!(!relay.log().contains(&agents) && !relay.log().contains(&people));
    drop((allowed, made_up));
    Ok(())
}

fn ci_tokens_are_let_in_or_refused_with_their_reason(setup: &mut Setup) -> Result<()> {
    let issuer = Issuer::start(&setup.path().join("issuer"))?;
    let config = setup.path().join("relay.toml");
    let text = format!(
        "[access]\nagent-auth = 'token'\n[[access.oidc]]\nkind = 'github'\nissuer = '{}'\n\
         audience = 'https://relay.example'\nid = '{{repository_owner}}-*'\n\
         claims = {{ repository_owner = 'octocat', ref = ['refs/heads/main', 'refs/tags/*', 'refs/pull/*'] }}\n",
        issuer.url
    );
    fs::write(&config, &text)?;
    let config = config.display().to_string();
    let (relay, url) =
        relay(setup, "oidc", &["--config", &config, "--log", "info,converge_relay=debug"], Some(&issuer))?;

    let now = issuer.claims(&json!({}))["iat"].as_u64().context("a time")?;
    let other = Issuer::start(&setup.path().join("other-issuer"))?;
    for (change, reason) in [
        (json!({"iat": now - 480, "nbf": now - 480, "exp": now - 200}), "the token expired 3 minutes ago"),
        (
            json!({"aud": "https://elsewhere.example"}),
            "wrong audience: the token is for https://elsewhere.example, this relay wants https://relay.example",
        ),
        (json!({"nbf": now + 3600}), "the token is good only in"),
        (json!({"iss": other.url}), "is not trusted here"),
        (json!({"repository_owner": "stranger"}), "takes no job whose repository_owner is stranger"),
        (json!({"ref": "refs/heads/feature"}), "takes no job whose ref is refs/heads/feature"),
        (
            json!({"event_name": "pull_request_target"}),
            "the event \"pull_request_target\" may come from a fork or a stranger; the operator does not allow these",
        ),
        (
            json!({"event_name": "pull_request", "repository_visibility": "private", "ref": "refs/pull/1/merge"}),
            "which may be from a fork; the operator does not allow these",
        ),
    ] {
        let token = issuer.sign(&issuer.claims(&change))?;
        let refused = refusal(agent(setup, "octocat-a", &url)?.env("CONVERGE_TOKEN", &token))?;
        assert!(refused.contains(reason), "{change}: {refused}");
    }
    // Another issuer's signature under this one's name.
    let forged = other.sign(&issuer.claims(&json!({})))?;
    let refused = refusal(agent(setup, "octocat-a", &url)?.env("CONVERGE_TOKEN", forged))?;
    assert!(refused.contains("signature is not that of"), "{refused}");
    let good = issuer.sign(&issuer.claims(&json!({})))?;
    let refused = refusal(agent(setup, "mine", &url)?.env("CONVERGE_TOKEN", &good))?;
    assert!(refused.contains("is for octocat-*, and not for the ID mine"), "{refused}");
    assert_eq!(issuer.asked_for("/keys"), 1, "keys are fetched once and kept");
    assert_eq!(issuer.asked_for("/.well-known/"), 1);

    let mut command = agent(setup, "octocat-a", &url)?;
    let allowed = Agent::start_as("allowed", command.env("CONVERGE_ID_TOKEN", &good), setup.path())?;
    assert_eq!(allowed.id, "octocat-a");
    relay.wait_for_log("verified claims", |log| log.contains("octocat/hello refs/heads/main (push)"))?;
    // People need no token here.
    let mut ssh = setup.openssh_to("ssh", &allowed.address)?;
    let inside = run(ssh.arg("env"), b"")?.success()?.text();
    assert!(!inside.contains(&good), "{inside}");

    // The operator may let pull requests from forks in, and a running relay takes that over.
    fs::write(&config, text + "allow-fork = true\n")?;
    relay.signal(rustix::process::Signal::HUP)?;
    let fork = issuer.sign(&issuer.claims(&json!({"event_name": "pull_request_target"})))?;
    let mut command = agent(setup, "octocat-fork", &url)?;
    command.env("CONVERGE_TOKEN", &fork);
    eventually("the fork to be let in", || {
        Agent::start_as("fork", &mut command, setup.path()).ok().map(|agent| agent.id)
    })?;
    assert!(!relay.log().contains(&good));
    Ok(())
}

fn github_job_gets_its_token_by_itself(setup: &mut Setup) -> Result<()> {
    let issuer = Issuer::start(&setup.path().join("issuer"))?;
    let audience = "https://relay.example:4433";
    let config = setup.path().join("relay.toml");
    let text = format!(
        "[access]\nagent-auth = 'token'\n[[access.oidc]]\nkind = 'github'\nissuer = '{}'\n\
         audience = '{audience}'\nclaims = {{ repository = 'octocat/*' }}\n",
        issuer.url
    );
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let (mut relay, url) = relay(setup, "oidc", &["--config", &config], Some(&issuer))?;
    issuer.offer(issuer.claims(&json!({})));
    let mut command = agent(setup, "job", &url)?;
    command
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/token?api-version=2.0", issuer.url))
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", RUNNER_TOKEN)
        .env("SSL_CERT_FILE", &issuer.certificate);
    let refused = refusal(&mut command)?;
    assert!(refused.contains("wrong audience") && refused.contains("--oidc-audience"), "{refused}");
    command.args(["--oidc-audience", audience]);
    let allowed = Agent::start_as("job", &mut command, setup.path())?;
    let mut ssh = setup.openssh_to("ssh", &allowed.address)?;
    run(ssh.arg("true"), b"")?.success()?;

    // A relay that comes back finds the job with a new token.
    let before = issuer.asked_for("/token");
    relay.signal(rustix::process::Signal::KILL)?;
    relay.wait()?;
    let authority = url.trim_start_matches("https://").split('#').next().context("an authority")?.to_owned();
    let mut command = relay_program()?;
    command.args(["--config", &config, "--listen", &authority, "--state-dir"]).arg(setup.path().join("oidc"));
    command.env("SSL_CERT_FILE", &issuer.certificate);
    let mut relay = Process::start("oidc", &mut command, setup.path())?;
    relay.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned))?;
    let mut ssh = setup.converge()?;
    ssh.args(["ssh", "--wait", "50s", &allowed.address]).args(setup.ssh_options()).arg("true");
    run(&mut ssh, b"")?.success()?;
    assert!(issuer.asked_for("/token") > before, "a token for each registration");
    Ok(())
}

#[test]
fn keys_of_an_issuer_are_fetched_once_for_everybody() {
    crate::tell(Carrier::WebSocket, issuer_changes_its_key_and_goes_away);
}

/// Asks for a session with a job that is not there, as a foreign tool does. 404 is the answer to somebody who was let in.
fn let_in(relay: &str, token: &str) -> Result<(u16, String)> {
    let mut connection = TcpStream::connect(relay)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(
        connection,
        "GET /client/nobody HTTP/1.1\r\nHost: relay\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer))
}

/// The same for twenty at once, who all get this status and these words.
fn all_get(relay: &str, token: &str, status: u16, words: &str) -> Result<()> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| let_in(relay, token))).collect();
        for one in asking {
            let (got, answer) = one.join().ok().context("a thread has panicked")??;
            ensure!(got == status && answer.contains(words), "wanted {status} and {words:?}, got {answer}");
        }
        Ok(())
    })
}

fn issuer_changes_its_key_and_goes_away(setup: &mut Setup) -> Result<()> {
    let issuer = Issuer::start(&setup.path().join("issuer"))?;
    let config = setup.path().join("relay.toml");
    let text = format!(
        "[access]\nagent-auth = 'none'\nclient-auth = 'token'\n[[access.oidc]]\nissuer = '{}'\n\
         audience = 'https://relay.example'\nscopes = ['client']\n",
        issuer.url
    );
    fs::write(&config, &text)?;
    let config = config.display().to_string();
    let start = |name| -> Result<(Process, String)> {
        let arguments = ["--config", &config, "--handshake-rate-per-address", "0"];
        let (mut relay, _) = relay(setup, name, &arguments, Some(&issuer))?;
        let http = relay
            .wait_for("its cleartext URL", |line| line.strip_prefix("http:  ws://").map(str::to_owned))?;
        Ok((relay, http))
    };
    let (_relay, http) = start("oidc")?;
    let claims = issuer.claims(&json!({}));
    let old = issuer.sign(&claims)?;
    all_get(&http, &old, 404, "no agent")?;
    assert_eq!(issuer.asked_for("/keys"), 1, "twenty wait for one fetch");

    issuer.take_another_key("second")?;
    let new = issuer.sign(&claims)?;
    all_get(&http, &new, 503, "has no such key yet")?;
    all_get(&http, &old, 404, "no agent")?;
    assert_eq!(issuer.asked_for("/keys"), 1, "not more often than every 30 seconds");
    eventually("the new key", || {
        // Each look is a connection, of which one address may begin only so many per second, and the relay asks its issuer
        // again only when somebody comes: there is no other event.
        std::thread::sleep(Duration::from_millis(200));
        let_in(&http, &new).ok().filter(|(status, _)| *status == 404)
    })?;
    all_get(&http, &new, 404, "no agent")?;
    all_get(&http, &old, 404, "no agent")?;
    assert_eq!(issuer.asked_for("/keys"), 2);

    issuer.go_away();
    let before = issuer.connections();
    all_get(&http, &new, 404, "no agent")?;
    assert_eq!(issuer.connections(), before, "what is there is used");
    let (_relay, http) = start("oidc-alone")?;
    for _ in 0..2 {
        all_get(&http, &new, 503, "the relay cannot check the token now: the keys of https://localhost")?;
    }
    assert_eq!(issuer.connections(), before + 1, "forty tokens, one try");
    Ok(())
}

fn networks_that_are_not_named_are_refused(setup: &mut Setup) -> Result<()> {
    let arguments = ["--agent-network", "127.0.0.0/8,::1/128", "--client-network", "192.0.2.0/24"];
    let (_relay, url) = relay(setup, "networks", &arguments, None)?;
    let allowed = Agent::start_as("allowed", &mut agent(setup, "job", &url)?, setup.path())?;
    let output = run(setup.openssh_to("ssh", &allowed.address)?.arg("true"), b"")?;
    assert_eq!(output.status.code(), Some(5), "{}", output.stderr);
    assert!(output.stderr.contains("does not serve clients from 127.0.0.1"), "{}", output.stderr);
    Ok(())
}

fn relay_that_others_can_reach_wants_a_decision(setup: &mut Setup) -> Result<()> {
    let state = setup.path().join("open").display().to_string();
    let start = |arguments: &[&str]| -> Result<Command> {
        let mut command = relay_program()?;
        command.args(["--listen", "0.0.0.0:0", "--state-dir", &state]).args(arguments);
        Ok(command)
    };
    for (arguments, named) in [
        (&[][..], &["--agent-auth ([access] agent-auth in the file)", "--client-auth"][..]),
        (&["--agent-auth", "none"], &["--client-auth ([access] client-auth in the file)"]),
        (&["--agent-auth", "none", "--client-auth", "token"], &["there are none", "--tokens-file"]),
        (&["--agent-auth", "some", "--client-auth", "none"], &["--agent-auth"]),
    ] {
        let output = run(&mut start(arguments)?, b"")?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", output.stderr);
        for name in named {
            assert!(output.stderr.contains(name), "{arguments:?}: {}", output.stderr);
        }
    }
    let mut command = start(&["--agent-auth", "none", "--client-auth", "none"])?;
    let mut process = Process::start("open", &mut command, setup.path())?;
    process.wait_for("its URL", |line| line.strip_prefix("relay: ").map(str::to_owned)).map(drop)
}
