//! Converge's links and streams over QUIC and WebSocket
