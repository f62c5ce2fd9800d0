# Every target brings up what it needs by itself; what is there already costs a second.
.DEFAULT_GOAL := help
.PHONY: help tools setup demo test thorough lint audit sanity matrix docs bench build clean

BIN := $(CURDIR)/.venv/bin
# Tests wait for containers about half of their time: two workers more than there are processors keep these busy.
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

# What the site is built with is installed meanwhile; the test that builds it waits for that.
test: setup      ## unit, integration, molecule, lint; pytest's summary last
	@tools/docs --install & $(BIN)/pytest --numprocesses=$(WORKERS) --durations=25

thorough: setup  ## additional cases of the same tests: older PostgreSQL and ansible-core, more stores
	@$(BIN)/pytest --numprocesses=$(WORKERS) -m thorough

lint: tools      ## ansible-lint, yamllint, ruff, mypy, shellcheck, hadolint, zizmor
	@$(BIN)/pytest tests/lint

audit:           ## known vulnerabilities of the pinned libraries; asks PyPI
	@tools/audit

sanity: tools    ## ansible-test sanity on the built collection
	@tests/sanity/run

matrix: tools    ## sanity and the plugins' tests with each ansible-core on each Python that is here
	@$(BIN)/python tools/matrix $(CORES)

# What takes longer is run by itself: benchmarks/pass times a pass on a quiet machine, benchmarks/nights counts the bytes of
# thirty nights; docs/row-order.md shows what they found.
bench: setup     ## ratios against peers and limits
	@benchmarks/run

docs:            ## the documentation as a site, .cache/docs/html/index.html; any warning fails it
	@tools/docs

build:           ## the collection's artifact
	@tools/build

clean:           ## remove what the targets made in the checkout; Docker's images stay
	rm -rf .venv .ansible .cache tests/output scalr-backup-*.tar.gz
