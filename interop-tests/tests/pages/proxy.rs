//! The pages below a path, behind a real nginx.

use super::{browser::Browser, tell, whole::links_lead_somewhere};
use anyhow::ensure;
use converge_interop_tests::{
    Agent, Relay,
    loopback::free_port,
    process::{Process, eventually},
    programs, setup,
};
use std::{fs, net::TcpStream, path::Path, process::Command};

/// As docs/operating/pages.md tells operators to write it, and what nginx needs to run as anybody.
fn configuration(directory: &Path, listen: &str, relay: &str) -> String {
    let directory = directory.display();
    format!(
        "daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr; events {{}}
        http {{
            access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
            fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            server {{
                listen {listen};
                location /sub/path/ {{
                    proxy_pass http://{relay}/;
                    proxy_http_version 1.1;
                    proxy_set_header Host $host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $connection_upgrade;
                    proxy_read_timeout 1h;
                }}
            }}
        }}"
    )
}

#[test]
fn pages_work_below_a_path_behind_nginx() {
    tell(|setup| {
        let listen = free_port()?;
        let directory = setup.path().join("behind-nginx");
        fs::create_dir(&directory)?;
        let public = format!("ws://{listen}/sub/path");
        let mut relay = Relay::command(&directory, "127.0.0.1:0")?;
        let relay = Relay::start_as("relay-behind", relay.args(["--public-url", &public]), &directory)?;
        let inside = relay.http.trim_start_matches("ws://");
        fs::write(directory.join("nginx.conf"), configuration(&directory, &listen.to_string(), inside))?;
        let mut nginx = Command::new(programs::installed("nginx")?);
        nginx.arg("-p").arg(&directory).arg("-c").arg(directory.join("nginx.conf"));
        let _nginx = Process::start("nginx", setup::clean(&mut nginx), &directory)?;
        eventually("nginx", || TcpStream::connect(listen).ok())?;

        let root = format!("http://{listen}/sub/path/");
        let browser = Browser::start(setup.path())?;
        browser.open(&root)?;
        links_lead_somewhere(&browser, &root)?;
        let style =
            browser.run("return getComputedStyle(document.querySelector('.brand')).fontWeight", vec![])?;
        ensure!(style == "650", "the style sheet is there: {style}");

        // A job that comes through nginx, on a page that is live through nginx.
        browser.click("nav a[href$=sessions]")?;
        browser.wait_for_text("#live", "Live")?;
        let job = setup.new_job("behind")?;
        let mut agent = Agent::command(&job, &public)?;
        let agent = Agent::start_as("agent-behind", agent.args(["--id", "behind"]), &directory)?;
        browser.wait_for_text("#a-behind", "behind")?;
        browser.take_picture("sessions-behind-nginx")?;
        browser.click("#a-behind a.id")?;
        browser.wait_for_text("h1", "behind")?;
        ensure!(browser.url()? == format!("{root}client/behind"), "{}", browser.url()?);
        browser.wait_for_text("main", &format!("{public}/client/behind"))?;
        links_lead_somewhere(&browser, &root)?;
        browser.open(&format!("{root}usage?id=x"))?;
        browser.wait_for_text("#connect", &format!("{public}/client/x"))?;
        browser.open(&format!("{root}client/Wrong"))?;
        links_lead_somewhere(&browser, &root)?;
        drop(agent);
        browser.has_clean_console(&["the server responded with a status of 400"])
    });
}
