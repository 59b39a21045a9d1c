//! The Converge relay: pairs agents and clients and copies bytes
