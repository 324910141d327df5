# Everything here is an ordinary command of rebar3 or cargo; the file only names them and does the set-up first.
#
#   make demo                a conversation with an embedded HTTP/2 server
#   make demo URL=https://…  the same with any server (METHOD=get, CACERT=file.pem, INSECURE=1 also count)
#   make demo-server         an HTTP/2 server to try with curl, until Ctrl-C (PORT=8443: at that port)
#   make test                everything that is checked; the summary stands at the end
#   make test-otp-matrix     Common Test and EUnit on newer releases of Erlang/OTP (as root, or with sudo)
#   make nightly             at length what `make test` touches on: about an hour and a half
#   make fuzz                fuzz the engine, FUZZ_SECONDS=60 a target; see test/README.md
#   make sanitize            the engine's tests under AddressSanitizer and ThreadSanitizer
#   make bench               see bench/README.md

SHELL := /bin/sh
REBAR3 ?= rebar3
CARGO ?= cargo
ERL ?= erl
# Where rustup puts cargo. It often is in the PATH of login shells only.
export PATH := $(PATH):$(HOME)/.cargo/bin

APP_EBIN := _build/default/lib/hackney_native/ebin
DEMO_EBIN := _build/demo
DEMO_SERVER := _build/demo_server
STEP_LOGS := _build/test/steps
# In this order: what fails soonest first.
STEPS := lint xref engine fuzz-replay loom eunit ct dialyzer demo-run

# The releases that test-otp-matrix runs, and what it makes on each (dialyzer is another it could).
OTP_MATRIX ?= 27 29
OTP_TARGETS ?= lint-erlang xref eunit ct

.PHONY: all compile demo demo-run demo-server demo-server-run test test-otp-matrix nightly setup-demo setup-test lint lint-erlang lint-rust xref engine \
        fuzz fuzz-replay sanitize sanitize-address sanitize-thread loom eunit ct dialyzer \
        nightly-properties nightly-shutdown nightly-schedulers nightly-load nightly-leaks bench doc clean

all: compile

compile:
	$(REBAR3) compile

setup-demo setup-test:
	@sh test/setup/install.sh $(@:setup-%=%)

# The demo ----------------------------------------------------------------------------------------

demo: setup-demo
	@$(MAKE) --no-print-directory demo-run

demo-run: compile
	@mkdir -p $(DEMO_EBIN)
	@erlc -Werror +debug_info -o $(DEMO_EBIN) examples/demo/*.erl
	@if [ -z "$$URL" ]; then $(CARGO) build --release --locked -p hackney_peer --bin h2-server; fi
	@CARGO='$(CARGO)' $(ERL) -noshell -pa $(APP_EBIN) $(DEMO_EBIN) -s demo main

demo-server: setup-demo
	@$(MAKE) --no-print-directory demo-server-run

demo-server-run: compile
	@mkdir -p $(DEMO_SERVER)
	@erlc -Werror +debug_info -o $(DEMO_SERVER) examples/demo_server/*.erl
	@DIR='$(DEMO_SERVER)' exec $(ERL) +Bd -noshell -pa $(APP_EBIN) $(DEMO_SERVER) -s demo_service main

# Tests -------------------------------------------------------------------------------------------

# Every step runs, whatever the one before it gave, so that one run tells everything there is to tell.
test: setup-test
	@MAKE='$(MAKE)' sh test/run_steps.sh $(STEP_LOGS) $(STEPS)

test-otp-matrix: setup-test
	@MAKE='$(MAKE)' sh test/run_steps.sh $(STEP_LOGS) $(OTP_MATRIX:%=otp-%)

otp-%: compile
	@CARGO='$(CARGO)' sh test/matrix/run.sh $* $(OTP_TARGETS)

lint: lint-erlang lint-rust

lint-erlang:
	$(REBAR3) as lint compile

lint-rust:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fmt --manifest-path native/fuzz/Cargo.toml --check

xref:
	$(REBAR3) xref

# Not the NIF crate: a program of its own cannot be linked without the VM's functions. Common Test tests it.
engine:
	$(CARGO) test --workspace --exclude hackney_native --locked

# Every interleaving of the lock that inline driving hangs on, and of the byte stream that is driven by calls.
loom:
	RUSTFLAGS='--cfg hackney_loom' CARGO_TARGET_DIR=target/loom $(CARGO) test --locked -p hackney_engine --lib loom_tests

# Fuzzing and sanitizers: test/README.md -----------------------------------------------------------

FUZZ_TARGETS ?= scan request credentials conversation
FUZZ_SECONDS ?= 60
FUZZ_SANITIZER ?= address
FUZZ_FOUND := _build/fuzz
# The flags that sanitizers need are not stable; a stable compiler takes them when told that it is one of its makers who asks.
UNSTABLE := RUSTC_BOOTSTRAP=1
# Sanitizers want the target named, so that build scripts are built without them.
HOST_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')

# The inputs in native/fuzz/corpus, through the targets as plain functions: no sanitizer, no cargo-fuzz.
fuzz-replay:
	$(CARGO) test --manifest-path native/fuzz/Cargo.toml --no-default-features --locked --target-dir target

# What is found on the way stays in $(FUZZ_FOUND) and is the beginning of the next run; the corpus that is kept is not touched.
fuzz:
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	$(UNSTABLE) $(CARGO) fuzz build -O --fuzz-dir native/fuzz --target-dir target/fuzz --sanitizer $(FUZZ_SANITIZER)
	@set -e; for target in $(FUZZ_TARGETS); do \
	    mkdir -p $(FUZZ_FOUND)/corpus/$$target $(FUZZ_FOUND)/findings; \
	    echo "== $$target"; \
	    target/fuzz/$(HOST_TARGET)/release/$$target $(FUZZ_FOUND)/corpus/$$target native/fuzz/corpus/$$target \
	        -max_total_time=$(FUZZ_SECONDS) -max_len=800 -timeout=20 -artifact_prefix=$(FUZZ_FOUND)/findings/$$target- \
	        -verbosity=0 -print_final_stats=1; \
	done

sanitize: sanitize-address sanitize-thread

sanitize-address:
	$(UNSTABLE) RUSTFLAGS='-Zsanitizer=address' CARGO_TARGET_DIR=target/asan \
	    $(CARGO) test --locked -p hackney_engine --target $(HOST_TARGET) --lib --tests

# The standard library has to be instrumented too, or what it orders looks like a race: built from its source, which
# `rustup component add rust-src` brings. To print the backtrace of a panic that a test is about takes longer than its deadline.
sanitize-thread:
	$(UNSTABLE) RUST_BACKTRACE=0 RUSTFLAGS='-Zsanitizer=thread' TSAN_OPTIONS='suppressions=$(CURDIR)/native/engine/thread_sanitizer.supp' \
	    CARGO_TARGET_DIR=target/tsan \
	    $(CARGO) test --locked -p hackney_engine --target $(HOST_TARGET) -Zbuild-std --lib --tests --no-fail-fast

# Named, because rebar3 would look for the modules of src_erl/drop_in too, which are not compiled with the others.
eunit:
	$(REBAR3) eunit --module=$$(basename -a -s .erl test/*_tests.erl | paste -sd, -)

ct:
	$(REBAR3) ct

dialyzer:
	$(REBAR3) dialyzer

# At length what `make test` only touches on -------------------------------------------------------

NIGHTLY_STEPS := nightly-properties nightly-shutdown nightly-schedulers nightly-load nightly-leaks

nightly: setup-test
	@MAKE='$(MAKE)' sh test/run_steps.sh $(STEP_LOGS) $(NIGHTLY_STEPS)

nightly-properties:
	PROPERTY_RUNS=$${PROPERTY_RUNS:-10000} $(REBAR3) ct --suite test/property_SUITE

nightly-shutdown:
	SHUTDOWN_ROUNDS=$${SHUTDOWN_ROUNDS:-100} $(REBAR3) ct --suite test/shutdown_SUITE

nightly-schedulers:
	SCHEDULER_SECONDS=$${SCHEDULER_SECONDS:-20} $(REBAR3) ct --suite test/scheduler_SUITE

nightly-load:
	LOAD_STREAMS=$${LOAD_STREAMS:-5000} LOAD_SECONDS=$${LOAD_SECONDS:-600} $(REBAR3) ct --suite test/load_SUITE

nightly-leaks:
	LEAK_OPENS=$${LEAK_OPENS:-200000} $(REBAR3) ct --suite test/leak_SUITE

# The rest ----------------------------------------------------------------------------------------

bench: setup-test compile
	@sh bench/run $(BENCH_ARGS)

doc: compile
	$(REBAR3) edoc
	@echo 'Documentation: _build/doc/index.html'

clean:
	-$(CARGO) clean
	rm -rf _build priv
