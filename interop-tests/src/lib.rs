//! Real programs against real Converge processes: stories, demo and benchmarks
