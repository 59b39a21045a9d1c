//! Converge's TLS identities, pins and rustls configurations
