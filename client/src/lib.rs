//! The Converge client: ssh, sftp and scp into a CI job through a relay
