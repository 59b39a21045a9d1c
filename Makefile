# Every target installs what it is missing, or says how. ARGS are handed on: make demo ARGS=--stay

programs = --bin converge --bin converge-relay --bin converge-agent

.PHONY: help demo test lint bench instructions platforms dist test-dist

help:
	@echo 'make demo    build, start a relay and an agent, use them with your ssh and sftp, stop'
	@echo '             (ARGS=--stay keeps them open for trying by hand)'
	@echo 'make test    all tests, with real programs'
	@echo 'make lint    format, clippy and documentation, warnings are errors'
	@echo 'make platforms  compile for Windows and macOS (ARGS=build makes the .exe files);'
	@echo '             with a compiler of its own, and no part of the others'
	@echo 'make dist    the programs as static binaries with checksums, in target/dist; takes minutes'
	@echo 'make test-dist  those in empty roots and in a container image'
	@echo 'make bench   speed and memory beside direct OpenSSH, as tables that go into docs/performance.md; an hour'
	@echo '             (ARGS="--help": its first part alone, with what can be set)'
	@echo 'make instructions  instructions of codecs, sessions and copying beside those that were kept;'
	@echo '             for machines too busy for times (ARGS=--write keeps the present ones)'

demo:
	@scripts/install-tools demo
	cargo build --release --locked $(programs) --bin demo
	@cargo run --release --locked --quiet --bin demo -- $(ARGS)

test:
	@scripts/install-tools test
	cargo build --locked --workspace --bins --examples
	cargo test --locked --workspace $(ARGS)

lint:
	@scripts/install-tools lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps

bench:
	@scripts/install-tools bench
	cargo build --release --locked $(programs) --bin bench --bin bench-agents --bin bench-network
	@scripts/bench $(ARGS)

instructions:
	@scripts/install-tools instructions
	@scripts/count-instructions $(ARGS)

platforms:
	@scripts/check-platforms $(ARGS)

dist:
	@scripts/install-tools dist
	scripts/dist

# What make dist has built, and not what cargo would: it is these files that are handed out.
test-dist:
	@scripts/install-tools test-dist
	cargo test --locked --package converge-interop-tests --test dist $(ARGS)
