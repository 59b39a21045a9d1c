//! What an operator is told: a real Prometheus scrapes the relay and answers every panel of the dashboard, a `StatsD` server
//! gets lines, and the session log says who was where.

use anyhow::{Context, Result, ensure};
use converge_interop_tests::{
    Agent, Process, Relay, Setup, loopback,
    process::{Output, eventually, run, send_signal},
    programs,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, PipeReader},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

on_both_carriers! {
    prometheus_answers_every_panel,
    session_log_says_who_when_and_how_much,
    reader_of_the_session_log_who_hangs_does_not_keep_the_relay,
    statsd_server_gets_lines,
}

/// What a session moves to the client, in bytes.
const MOVED: u64 = 1_000_000;

/// A relay with these arguments, and an agent in the setup's job that chooses its carrier, or has it chosen.
fn world(setup: &Setup, arguments: &[&str]) -> Result<(Relay, Agent)> {
    let directory = setup.path().join("world");
    fs::create_dir(&directory)?;
    let relay = Relay::start_with(&directory, "127.0.0.1:0", arguments)?;
    let carrier = setup.carrier.to_string();
    let transport = if carrier == "quic" { "auto" } else { &carrier };
    let agent = Agent::start(&setup.job(), &directory, &relay.url, ["--transport", transport])?;
    Ok((relay, agent))
}

/// A session that has moved [`MOVED`] bytes and goes on until it is told a word.
fn session(setup: &Setup, agent: &Agent) -> Result<Process> {
    let mut ssh = setup.openssh_to("ssh", &agent.address)?;
    ssh.arg(format!("head -c {MOVED} /dev/zero; echo; echo in; read word"));
    let mut session = Process::start_with_input("session", &mut ssh, setup.path())?;
    session.wait_for("a login", |line| line.ends_with("in").then_some(()))?;
    Ok(session)
}

fn curl(arguments: &[&str]) -> Result<Output> {
    let mut curl = Command::new(programs::installed("curl")?);
    curl.args(["-sS", "--max-time", "30", "--noproxy", "*", "--insecure", "-w", "\n%{http_code}"]);
    run(curl.args(arguments), b"")?.success()
}

/// The status of an answer, and its text.
fn answer(arguments: &[&str]) -> Result<(u16, String)> {
    let output = curl(arguments)?.text();
    let (text, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, text.to_owned()))
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// A Prometheus that scrapes one relay.
struct Prometheus {
    url: String,
    _process: Process,
}

impl Prometheus {
    fn start(setup: &Setup, relay: &Relay, token: &str) -> Result<Self> {
        let directory = setup.path().join("prometheus");
        fs::create_dir(&directory)?;
        fs::write(directory.join("token"), token)?;
        let target = relay.url.trim_start_matches("https://");
        let target = target.split(['/', '#']).next().unwrap_or_default();
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 1s }}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - job_name: converge-relay\n  \
               scheme: https\n  \
               tls_config: {{ insecure_skip_verify: true }}\n  \
               authorization: {{ credentials_file: token }}\n  \
               static_configs: [{{ targets: ['{target}'] }}]\n",
            fs::canonicalize(deploy("prometheus/alerts.yml"))?.display()
        );
        fs::write(directory.join("prometheus.yml"), config)?;
        let address = loopback::free_port()?;
        let mut command = Command::new(programs::installed("prometheus")?);
        command.current_dir(&directory).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", &mut command, setup.path())?;
        Ok(Self { url: format!("http://{address}/api/v1"), _process: process })
    }

    /// What an instant query finds.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let query = format!("query={query}");
        let (status, text) = answer(&["--get", "--data-urlencode", &query, &format!("{}/query", self.url)])?;
        ensure!(status == 200, "{query}: {status} {text}");
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["data"]["result"].as_array().context("no result")?.clone())
    }

    /// The sum of a query's values.
    fn sum(&self, query: &str) -> Option<f64> {
        let result = self.query(query).ok()?;
        let values = result.iter().map(|sample| sample["value"][1].as_str()?.parse::<f64>().ok());
        values
            .collect::<Option<Vec<_>>>()
            .filter(|values| !values.is_empty())
            .map(|values| values.iter().sum())
    }

    /// Every name there is.
    fn names(&self) -> Result<BTreeSet<String>> {
        let (_, text) = answer(&[&format!("{}/label/__name__/values", self.url)])?;
        let answer: Value = serde_json::from_str(&text)?;
        let names = answer["data"].as_array().context("no names")?;
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// Every query of the dashboard, with the panel it is of.
fn panels() -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(deploy("grafana/converge.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().context("a panel without a title")?;
        for target in panel["targets"].as_array().context("a panel without queries")? {
            queries.push((title.to_owned(), target["expr"].as_str().context("no query")?.to_owned()));
        }
    }
    Ok(queries)
}

/// The names of ours, and of processes, in a query.
fn names_in(query: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(move |c: char| !is_name(c));
    words.filter(|word| word.starts_with("converge_") || word.starts_with("process_"))
}

fn prometheus_answers_every_panel(setup: &mut Setup) -> Result<()> {
    let tokens = setup.path().join("tokens.toml");
    let tokens_file = tokens.display().to_string();
    let mut create = Command::new(programs::own("converge-relay")?);
    create.args([
        "token",
        "create",
        "--name",
        "prometheus",
        "--scope",
        "metrics",
        "--tokens-file",
        &tokens_file,
    ]);
    let token = run(&mut create, b"")?.success()?.text().trim().to_owned();
    let (relay, agent) = world(setup, &["--tokens-file", &tokens_file])?;
    let mut session = session(setup, &agent)?;
    let url = format!("{}/metrics", relay.url.split('#').next().unwrap_or_default());

    let (status, said) = answer(&[&url])?;
    assert!(status == 401 && said.contains("wants a token"), "{status} {said}");
    let (status, said) =
        answer(&["-H", "Authorization: Bearer of-nobody-at-all-0000000000000000000000", &url])?;
    assert!(status == 401 && said.contains("does not know the token"), "{status} {said}");
    let (status, text) = answer(&["-H", &format!("Authorization: Bearer {token}"), &url])?;
    assert_eq!(status, 200, "{text}");
    let mut promtool = Command::new(programs::installed("promtool")?);
    let checked = run(promtool.args(["check", "metrics"]), text.as_bytes())?.success()?;
    assert_eq!((checked.text(), checked.stderr), (String::new(), String::new()), "{text}");

    let prometheus = Prometheus::start(setup, &relay, &token)?;
    let carrier = setup.carrier;
    eventually("a session in Prometheus", || {
        let here = prometheus.sum(&format!("converge_sessions{{carrier=\"{carrier}\"}}"))?;
        let moved = format!("converge_session_bytes_total{{carrier=\"{carrier}\", direction=\"to_client\"}}");
        (here >= 1.0 && prometheus.sum(&moved)? >= 1_000_000.0).then_some(())
    })?;
    session.write_line("word")?;
    assert!(session.wait()?.success());
    eventually("its end", || {
        (prometheus.sum("converge_session_ends_total{end=\"done\"}")? >= 1.0).then_some(())
    })?;
    for (query, least) in [
        ("converge_agents", 1.0),
        ("converge_connects_total{result=\"connected\"}", 1.0),
        ("converge_registrations_total{result=\"registered\"}", 1.0),
        ("converge_access_refused_total{scope=\"metrics\", reason=\"no_token\"}", 1.0),
        ("converge_access_refused_total{scope=\"metrics\", reason=\"unknown_token\"}", 1.0),
        ("converge_http_requests_total{status=\"4xx\"}", 2.0),
        ("converge_pairing_seconds_count", 1.0),
        ("converge_handshake_seconds_count{transport=\"tls\"}", 1.0),
        ("converge_certificate_expiry_timestamp_seconds", 1.7e9),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let sum = prometheus.sum(query);
        assert!(sum.is_some_and(|sum| sum >= least), "{query}: {sum:?}\n{text}");
    }
    // The agent was free to choose where the client used QUIC.
    let races = prometheus.sum("converge_carrier_races_total{role=\"agent\"}");
    assert_eq!(races, Some(if carrier.to_string() == "quic" { 1.0 } else { 0.0 }));

    let names = prometheus.names()?;
    let queries = panels()?;
    assert!(queries.len() > 25, "{queries:?}");
    for (panel, query) in queries {
        for name in names_in(&query) {
            assert!(names.contains(name), "{panel}: there is no {name} in {names:#?}");
        }
        let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        prometheus.query(&query).with_context(|| panel)?;
    }
    let alerts = fs::read_to_string(deploy("prometheus/alerts.yml"))?;
    let exprs = alerts.split("expr:").skip(1).filter_map(|rest| rest.split("labels:").next());
    for name in exprs.flat_map(names_in) {
        assert!(names.contains(name), "alerts.yml: there is no {name}");
    }
    assert_eq!(prometheus.query("ALERTS{alertstate=\"firing\"}")?, Vec::<Value>::new());
    Ok(())
}

/// The lines that are in a log now.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last one may not be whole yet.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn session_log_says_who_when_and_how_much(setup: &mut Setup) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (log, moved) = (setup.path().join("sessions.json"), setup.path().join("sessions.json.1"));
    let (mut relay, agent) =
        world(setup, &["--session-log", &log.display().to_string(), "--log-format", "json"])?;
    let mut session = session(setup, &agent)?;
    let began = eventually("a line", || lines(&log).into_iter().next())?;
    session.write_line("word")?;
    assert!(session.wait()?.success());
    let ended = eventually("a second line", || lines(&log).into_iter().nth(1))?;
    for line in [&began, &ended] {
        assert_eq!(line["id"], *agent.id, "{line}");
        assert_eq!(line["fingerprint"], *agent.fingerprint(), "{line}");
        assert_eq!(line["carrier"], setup.carrier.to_string(), "{line}");
        assert_eq!((&line["kind"], &line["resumed"]), (&"resumable".into(), &false.into()), "{line}");
        let address = line["client_address"].as_str().context("no address")?;
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        let software = line["client_software"].as_str().context("no software")?;
        assert!(software.starts_with("converge/"), "{line}");
    }
    assert_eq!((&began["event"], &ended["event"]), (&"session_began".into(), &"session_ended".into()));
    assert_eq!(ended["reason"], "done", "{ended}");
    assert!(ended["to_client_bytes"].as_u64() > Some(MOVED), "{ended}");
    assert!(ended["to_agent_bytes"].as_u64() > Some(0) && ended["seconds"].as_f64() > Some(0.0), "{ended}");
    assert_eq!(fs::metadata(&log)?.permissions().mode() & 0o777, 0o600);

    fs::rename(&log, &moved)?;
    relay.process.signal(Signal::HUP)?;
    eventually("a new file", || log.exists().then_some(()))?;
    run(setup.openssh_to("ssh", &agent.address)?.arg("true"), b"")?.success()?;
    eventually("lines in the new file", || (lines(&log).len() == 2).then_some(()))?;
    assert_eq!(lines(&moved).len(), 2);

    // What waits is written before the relay ends; its own log is JSON, too.
    let mut last = self::session(setup, &agent)?;
    relay.process.signal(Signal::TERM)?;
    last.write_line("word")?;
    relay.process.wait()?;
    eventually("the last lines", || (lines(&log).len() == 4).then_some(()))?;
    let own = relay.process.log();
    let own = own.lines().find(|line| line.contains("session begins")).context(own.clone())?;
    assert!(serde_json::from_str::<Value>(own)?["session"].is_u64(), "{own}");
    Ok(())
}

fn reader_of_the_session_log_who_hangs_does_not_keep_the_relay(setup: &mut Setup) -> Result<()> {
    let (output, input) = std::io::pipe()?;
    // As small as the system makes it, so that few sessions fill it.
    let room = rustix::pipe::fcntl_setpipe_size(&input, 4096)?;
    let mut command = Relay::command(setup.path(), "127.0.0.1:0")?;
    command.args(["--session-log", "-", "--log", "off"]).stdout(input).stdin(Stdio::null());
    let mut relay = command.spawn()?;
    // With it goes this process's own end for writing.
    drop(command);
    let ended = fill_and_stop(setup, &mut relay, output, room);
    // Without effect when it has ended.
    relay.kill()?;
    relay.wait()?;
    assert!(ended?.success());
    Ok(())
}

/// Reads the relay's address from its output and nothing more, and tells it to stop when the pipe is full.
fn fill_and_stop(setup: &Setup, relay: &mut Child, output: PipeReader, room: usize) -> Result<ExitStatus> {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let url = line.trim().strip_prefix("relay: ").context(line.clone())?.to_owned();
    let carrier = setup.carrier.to_string();
    let agent = Agent::start(&setup.job(), setup.path(), &url, ["--transport", &carrier, "--hold"])?;
    // A session has two lines of more than 300 bytes.
    for _ in 0..room / 600 + 2 {
        run(setup.openssh_to("ssh", &agent.address)?.arg("true"), b"")?.success()?;
    }
    send_signal(relay.id(), Signal::TERM)?;
    eventually("the relay's end", || relay.try_wait().ok().flatten())
}

fn statsd_server_gets_lines(setup: &mut Setup) -> Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let port = server.local_addr()?.port().to_string();
    let arguments = ["--statsd-host", "localhost", "--statsd-port", &port, "--statsd-namespace", "ci.eu"];
    let (mut relay, agent) = world(setup, &[&arguments[..], &["--metrics", "127.0.0.1:0"]].concat())?;
    let mut session = session(setup, &agent)?;
    let carrier = setup.carrier.to_string();
    let wanted = [
        format!("ci.eu.converge_agents:1|g|#carrier:{carrier}"),
        format!("ci.eu.converge_connects_total:1|c|#carrier:{carrier},result:connected"),
        format!("ci.eu.converge_sessions:1|g|#carrier:{carrier}"),
    ];
    let mut seen = BTreeSet::new();
    let mut packet = vec![0; 65_536];
    eventually("lines for StatsD", || {
        while let Ok(length) = server.recv(&mut packet) {
            let text = String::from_utf8_lossy(&packet[..length]).into_owned();
            // Gauges with a fraction for those who want one.
            seen.extend(text.lines().map(|line| line.replace(".0|g", "|g")));
        }
        wanted.iter().all(|line| seen.contains(line)).then_some(())
    })
    .with_context(|| format!("{wanted:#?} are not all in {seen:#?}"))?;
    for line in &seen {
        let (name, rest) = line.split_once(':').context(line.clone())?;
        assert!(name.starts_with("ci.eu."), "{line}");
        let kind = rest.split('|').nth(1);
        assert!(matches!(kind, Some("c" | "g" | "h")), "{line}");
    }
    let moved = "ci.eu.converge_session_bytes_total:";
    let moved = seen.iter().filter(|line| line.starts_with(moved) && line.contains("direction:to_client"));
    let moved = moved.filter_map(|line| line.split([':', '|']).nth(1)?.parse::<u64>().ok());
    assert!(moved.max() > Some(MOVED), "{seen:#?}");

    // Prometheus has an address of its own here, and then no other.
    let own =
        relay.process.wait_for("its metrics", |line| line.strip_prefix("metrics: ").map(str::to_owned))?;
    let (status, text) = answer(&[&own])?;
    assert!(status == 200 && text.contains("\nconverge_sessions{"), "{status} {text}");
    let relay_url = relay.url.split('#').next().unwrap_or_default();
    let (status, said) = answer(&[&format!("{relay_url}/metrics")])?;
    assert!(status == 404 && said.contains("an address of their own"), "{status} {said}");
    assert_eq!(answer(&[&own.replace("/metrics", "/")])?.0, 404);
    assert_eq!(answer(&[&own.replace("/metrics", "/healthz")])?, (200, "ok\n".to_owned()));
    session.write_line("word")?;
    assert!(session.wait()?.success());
    Ok(())
}
