# Everything a developer calls. Each target installs what is missing first, and needs no network after that.

CARGO ?= cargo
DEMO_ARGS ?= --duration 20s

.PHONY: demo test soak fuzz lint bench bench-peers deb deb-test deps engines build clean

# A test camera with a scene of known truth, watched by the daemon: records on stdout, a report on stderr.
demo: deps
	$(CARGO) build --release --locked --bin watchpost --bin watchpost-testcam --package watchpost --package watchpost-testcam
	target/release/watchpost demo $(DEMO_ARGS)

test: deps engines
	$(CARGO) test --workspace --locked --no-fail-fast

# Each target of fuzz/ for FUZZ_SECONDS (60), with libFuzzer. `make test` runs the corpus and a few mutations of it.
fuzz: deps
	sh tools/fuzz.sh

# 86,400 frames and 1,000 stall/restart cycles over every fault of the test camera, with reloads and bad readers: about
# twenty minutes. Report and plot in target/soak/. A short form of it, and its controls, are among the tests.
soak: deps
	$(CARGO) test --locked --test soak -- full

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items
	sh tools/deny.sh

# Prints which machine the figures are from, then runs every benchmark.
bench: deps
	@uname -nmsr; grep -m1 'model name' /proc/cpuinfo || true; nproc
	$(CARGO) bench --workspace --locked
	sh tools/bench-detect.sh

# watchpost beside what people use today, on one core of this machine, which should have nothing else to do: 17 minutes, or 3 with
# BENCH_ARGS=--quick. Writes docs/benchmarks.md and its plots. The peers go into target/peers (1.3 GB) and nowhere else.
bench-peers: deps engines
	$(CARGO) build --release --locked -p watchpost -p watchpost-testcam -p watchpost-bench-limit --bins
	sh tools/bench-peers/setup.sh target/peers
	PYTHONDONTWRITEBYTECODE=1 python3 tools/bench-peers/bench_peers.py $(BENCH_ARGS)

# target/debian/watchpost_VERSION_ARCH.deb: program, unit, users, examples, completions.
deb: deps
	sh tools/deb.sh

# Installs the package in a clean Debian, runs it under a stand-in for systemd, purges it. Needs root and debootstrap.
deb-test: deb
	sh tests/deb/install_and_purge.sh

build: deps
	$(CARGO) build --release --locked

deps:
	@sh tools/deps.sh

# What the tests of the backends onnxruntime and openvino load.
engines:
	@sh tools/cpu-engines.sh target/engines

clean:
	$(CARGO) clean
