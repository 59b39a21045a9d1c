//! The limits, as a relay runs with them.

use crate::{
    command_line,
    limits::{Limits, Proxies},
};

/// What was said, else the default.
pub(super) fn limits(said: &command_line::Limits) -> Limits {
    let default = Limits::default();
    let proxies = Proxies {
        trusted: said.trusted_proxy.clone().unwrap_or_default(),
        protocol: said.proxy_protocol.unwrap_or_default(),
        header: said.proxy_address_header.unwrap_or_default(),
    };
    Limits {
        connections: said.max_connections.unwrap_or(default.connections),
        connections_per_address: said.max_connections_per_address.unwrap_or(default.connections_per_address),
        handshake_rate: said.handshake_rate.unwrap_or(default.handshake_rate),
        handshake_rate_per_address: said
            .handshake_rate_per_address
            .unwrap_or(default.handshake_rate_per_address),
        handshakes: said.max_handshakes.unwrap_or(default.handshakes),
        retry_above: said.retry_above.unwrap_or(default.retry_above),
        agents: said.max_agents.unwrap_or(default.agents),
        agents_per_address: said.max_agents_per_address.unwrap_or(default.agents_per_address),
        sessions: said.max_sessions.unwrap_or(default.sessions),
        sessions_per_agent: said.max_sessions_per_agent.unwrap_or(default.sessions_per_agent),
        streams_per_link: said.max_streams_per_link.unwrap_or(default.streams_per_link),
        waiting_clients: said.max_waiting_clients.unwrap_or(default.waiting_clients),
        waiting_clients_per_address: said
            .max_waiting_clients_per_address
            .unwrap_or(default.waiting_clients_per_address),
        watching_browsers: said.max_watching_browsers.unwrap_or(default.watching_browsers),
        watching_browsers_per_address: said
            .max_watching_browsers_per_address
            .unwrap_or(default.watching_browsers_per_address),
        session_bytes_per_second: said.session_bytes_per_second.unwrap_or(default.session_bytes_per_second),
        agent_bytes_per_second: said.agent_bytes_per_second.unwrap_or(default.agent_bytes_per_second),
        header_bytes: said.max_header_bytes.unwrap_or(default.header_bytes),
        body_bytes: said.max_body_bytes.unwrap_or(default.body_bytes),
        proxies,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::CommandLine;

    #[test]
    fn defaults_that_are_shown_are_those_that_hold() {
        let shown = limits(&CommandLine::without_environment(&[]).settings().limits);
        assert_eq!(format!("{shown:?}"), format!("{:?}", Limits::default()));
    }
}
