# Everything here is an ordinary command of rebar3 or cargo; the file only names them and does the set-up first.
#
#   make demo                a conversation with an embedded HTTP/2 server
#   make demo URL=https://…  the same with any server (METHOD=get, CACERT=file.pem, INSECURE=1 also count)
#   make test                everything that is checked; the summary stands at the end
#   make test-otp-matrix     Common Test and EUnit on newer releases of Erlang/OTP (as root, or with sudo)
#   make nightly             at length what `make test` touches on: about an hour and a half
#   make bench               see bench/README.md

SHELL := /bin/sh
REBAR3 ?= rebar3
CARGO ?= cargo
ERL ?= erl
# Where rustup puts cargo. It often is in the PATH of login shells only.
export PATH := $(PATH):$(HOME)/.cargo/bin

APP_EBIN := _build/default/lib/hackney_native/ebin
DEMO_EBIN := _build/demo
STEP_LOGS := _build/test/steps
# In this order: what fails soonest first.
STEPS := lint xref engine loom eunit ct dialyzer demo-run

# The releases that test-otp-matrix runs, and what it makes on each (dialyzer is another it could).
OTP_MATRIX ?= 27 29
OTP_TARGETS ?= lint-erlang xref eunit ct

.PHONY: all compile demo demo-run test test-otp-matrix nightly setup-demo setup-test lint lint-erlang lint-rust xref engine \
        loom eunit ct dialyzer nightly-properties nightly-shutdown nightly-schedulers nightly-load nightly-leaks bench doc clean

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

xref:
	$(REBAR3) xref

# Not the NIF crate: a program of its own cannot be linked without the VM's functions. Common Test tests it.
engine:
	$(CARGO) test --workspace --exclude hackney_native --locked

# Every interleaving of the lock that inline driving hangs on.
loom:
	RUSTFLAGS='--cfg hackney_loom' CARGO_TARGET_DIR=target/loom $(CARGO) test --locked -p hackney_engine --lib baton

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
