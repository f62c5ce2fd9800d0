# Every target brings up what it needs by itself; what is there already costs a second.
.DEFAULT_GOAL := help
.PHONY: help tools setup demo test thorough lint sanity bench build clean

BIN := $(CURDIR)/.venv/bin
# Tests wait for containers a part of their time: one worker more than there are processors keeps these busy.
WORKERS = $(shell expr $$(nproc) + 1)
export PATH := $(BIN):$(PATH)

help:            ## list the targets
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

tools:
	@tools/bootstrap

setup: tools     ## Python tools, Docker Engine and the images for the tests and the demo
	@tools/platform

demo: setup      ## back up, damage and restore a sample database on this machine
	@demo/run

test: setup      ## unit, integration, molecule, lint; pytest's summary last
	@$(BIN)/pytest --numprocesses=$(WORKERS) --durations=25

thorough: setup  ## additional cases of the same tests: older PostgreSQL and ansible-core, more stores
	@$(BIN)/pytest --numprocesses=$(WORKERS) -m thorough

lint: tools      ## ansible-lint, yamllint, ruff, mypy, shellcheck
	@$(BIN)/pytest tests/lint

sanity: tools    ## ansible-test sanity on the built collection
	@tests/sanity/run

bench: setup     ## ratios against peers and limits
	@benchmarks/run

build:           ## the collection's artifact
	@tools/build

clean:           ## remove what the targets made in the checkout; Docker's images stay
	rm -rf .venv .ansible .cache tests/output scalr-backup-*.tar.gz
