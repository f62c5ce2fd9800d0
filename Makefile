# Every target installs what it needs; checking what is already there takes a second.
.DEFAULT_GOAL := help
.PHONY: help tools setup demo test thorough lint audit sanity matrix docs bench build clean

BIN := $(CURDIR)/.venv/bin
# Tests spend about half their time waiting for containers: two more workers than processors keep the processors busy.
WORKERS = $(shell expr $$(nproc) + 2)
export PATH := $(BIN):$(PATH)

help:            ## list the targets
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

tools:
	@tools/bootstrap

setup: tools     ## Python tools, Docker Engine and the images for the tests and the demo
	@tools/platform

demo: setup      ## back up, damage and restore a sample database on this machine
	@demo/run

# The site's build tools are installed meanwhile; the test that builds the site waits for them.
test: setup      ## unit, integration, molecule, lint; pytest's summary last
	@tools/docs --install & $(BIN)/pytest --numprocesses=$(WORKERS) --durations=25

thorough: setup  ## additional cases of the same tests: older PostgreSQL and ansible-core, more stores
	@$(BIN)/pytest --numprocesses=$(WORKERS) -m thorough

lint: tools      ## ansible-lint, yamllint, ruff, mypy, shellcheck, hadolint, zizmor
	@$(BIN)/pytest tests/lint

audit:           ## known vulnerabilities of the pinned libraries; queries PyPI
	@tools/audit

sanity: tools    ## ansible-test sanity on the built collection
	@tests/sanity/run

matrix: tools    ## sanity and the plugins' tests with each ansible-core on each installed Python
	@$(BIN)/python tools/matrix $(CORES)

# Longer ones are run separately: benchmarks/pass times a pass on a quiet machine, benchmarks/nights counts the bytes of
# thirty nights; docs/row-order.md shows the results.
bench: setup     ## ratios against peers and limits
	@benchmarks/run

docs:            ## the documentation as a site, .cache/docs/html/index.html; any warning fails the build
	@tools/docs

build:           ## the collection's artifact
	@tools/build

clean:           ## remove what the targets made in the checkout; Docker's images stay
	rm -rf .venv .ansible .cache tests/output scalr-backup-*.tar.gz
