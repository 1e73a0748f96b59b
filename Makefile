# The only list of commands; CI runs these and nothing else. `make` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Whatever environment is active in the caller's shell, maturin installs into ours.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport CONDA_PREFIX
# The first Python that is new enough; another one: make PYTHON=python3.13 …
PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(python) >/dev/null && $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
RUST := Cargo.toml Cargo.lock build.rs $(wildcard init/*.rs src/*.rs src/*/*.rs)
# The init is no target of cargo: build.rs compiles it.
INIT := --edition=2024 --crate-name=nslab_init --crate-type=bin -Cpanic=abort init/main.rs

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/built $(VENV)/experiments ## Every experiment of the tour, on this kernel
	$(BIN)/nslab tour

test: $(VENV)/built $(VENV)/tested $(VENV)/pytest-8 ## All tests: Rust, Python as root and as an ordinary user
	cargo test --quiet --no-default-features
	$(MAKE) --no-print-directory --jobs=2 as-root as-ordinary-user on-pytest-8

# At once, for most of a test is waiting: another user's processes, and hosts without a name, are nothing to the others.
as-root:
	$(BIN)/python -m pytest --deselect tests/test_as_ordinary_user.py

as-ordinary-user:
	$(BIN)/python -m pytest tests/test_as_ordinary_user.py

on-pytest-8:
	$(VENV)/pytest-8/bin/python -m pytest $(wildcard tests/test_plugin_*.py)

notebooks: $(VENV)/built $(VENV)/tested ## Every lesson in both languages, from top to bottom (part of make test)
	$(BIN)/python notebooks/build.py --check
	$(BIN)/python -m pytest tests/test_notebooks.py

lab: $(VENV)/built $(VENV)/tested $(VENV)/lab ## JupyterLab on a copy of the lessons in target/lab
	mkdir -p target/lab
	cp -R -u notebooks/en notebooks/zh target/lab
	$(BIN)/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=target/lab

browser: $(VENV)/built $(VENV)/tested $(VENV)/browser ## The lessons in JupyterLab and headless Chromium; pictures in target/browser
	$(BIN)/python -m pytest notebooks/browser

conformance: $(VENV)/built $(VENV)/tested ## CPython's own test_subprocess on nslab.Popen
	$(BIN)/python tests/conformance/run.py

proof: $(VENV)/built $(VENV)/tested $(VENV)/proof $(VENV)/pythons $(VENV)/bin/cargo-deny $(VENV)/fuzz $(VENV)/cargo-fuzz ## Fault injection, soak, concurrency, fuzzing, death, every Python: hours; writes docs/proof.md
	$(BIN)/python -m proof
	$(BIN)/python -m proof --page

proof-short: $(VENV)/built $(VENV)/tested $(VENV)/proof $(VENV)/fuzz $(VENV)/cargo-fuzz ## The same in minutes, as CI runs it
	$(BIN)/python -m proof --short

lint: $(VENV)/built $(VENV)/dev $(VENV)/fuzz ## Formatting, lints, types, the stub against the module
	cargo fmt --check
	rustfmt --check --edition 2024 init/main.rs $(wildcard fuzz/targets/*.rs)
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --no-default-features -- -D warnings
	clippy-driver $(INIT) --emit=metadata -o target/init.rmeta -Wclippy::pedantic -Dwarnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest nslab._core

bench: $(VENV)/built $(VENV)/bench ## nslab beside C and its peers, in one run: table and plot in target/bench
	$(BIN)/python benches/bench.py
	$(BIN)/python benches/scan.py --memory
	$(BIN)/python benches/plugin.py
	$(BIN)/python benches/magics.py
	$(BIN)/python benches/host.py

wheel: $(VENV)/dev ## A wheel in dist
	$(BIN)/maturin build --release --out dist

clean: ## Everything that make made
	rm -rf $(VENV) target dist python/nslab/*.so

# Stamps: what is done once is not done again.
$(VENV)/pip:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed (apt-get install python3 python3-venv)' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || ./packages python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/build: $(VENV)/pip
	@command -v cargo >/dev/null || { echo 'Rust is needed: https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || ./packages gcc libc6-dev
	$(BIN)/python -m pip install --quiet 'maturin>=1.9.4,<2'
	touch $@

$(VENV)/dev: pyproject.toml $(VENV)/build
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# The plugin under the oldest pytest that it takes, with this very build.
$(VENV)/pytest-8: pyproject.toml $(VENV)/core
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$@/bin/python -m pip install --quiet --group pytest-8
	cp -r $(VENV)/lib/python3*/site-packages/nslab* $@/lib/python3*/site-packages/
	touch $@

$(VENV)/proof: pyproject.toml $(VENV)/dev
	$(BIN)/python -m pip install --quiet --group proof
	touch $@

# Newer than the system's, beside it.
$(VENV)/pythons: proof/debian-pythons proof/free-threaded-python $(VENV)/proof
	PATH="$(CURDIR)/$(BIN):$$PATH" nice proof/debian-pythons $@ 3.14 3.15
	./packages curl libbz2-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev xz-utils zlib1g-dev
	nice proof/free-threaded-python $@
	touch $@

# It compiles for minutes.
$(VENV)/bin/cargo-deny: $(VENV)/pip
	nice cargo install --quiet --locked --root $(VENV) cargo-deny

$(VENV)/bench: pyproject.toml $(VENV)/dev
	$(BIN)/python -m pip install --quiet --group bench
	./packages bubblewrap
	touch $@

$(VENV)/lab: pyproject.toml $(VENV)/dev
	$(BIN)/python -m pip install --quiet --group lab
	touch $@

# Playwright's own browsers are not needed: Debian's is driven.
$(VENV)/browser: pyproject.toml $(VENV)/dev
	$(BIN)/python -m pip install --quiet --group browser
	./packages chromium fonts-dejavu-core fonts-wqy-microhei
	touch $@

$(VENV)/core: $(RUST) pyproject.toml $(VENV)/build
	$(BIN)/maturin develop --quiet --release
	touch $@

# An editable install is not compiled by pip, and not by Python where PYTHONDONTWRITEBYTECODE is set.
$(VENV)/built: $(VENV)/core $(wildcard python/nslab/*.py python/nslab/*/*.py)
	$(BIN)/python -m compileall -q python/nslab
	touch $@

# The programs that the experiments call.
$(VENV)/experiments: $(VENV)/build packages
	./packages hostname iproute2 mount procps util-linux
	touch $@

$(VENV)/tested: $(VENV)/experiments $(VENV)/dev
	./packages uidmap strace
	$(BIN)/python tests/conformance/run.py --check || ./packages libpython3-testsuite
	touch $@

$(VENV)/fuzz: pyproject.toml $(VENV)/pip
	$(BIN)/python -m pip install --quiet --upgrade --target $@ --group fuzz
	touch $@

# libFuzzer comes as C++ and is compiled with the targets.
$(VENV)/cargo-fuzz: $(VENV)/build
	@command -v c++ >/dev/null || ./packages g++
	cargo install --quiet --locked --root $(VENV) --target-dir target/cargo-fuzz cargo-fuzz
	touch $@

.PHONY: help demo test as-root as-ordinary-user on-pytest-8 notebooks lab browser conformance proof proof-short lint bench wheel clean
