# Everything works from a fresh clone: what is missing (the virtual environment, the database) is made on the way.
# State lives in .local/, or where CAMPAIGN_STATE_DIR says. PYTHON=... names the Python that makes .venv.

RUN := .venv/bin/python -m
SOURCES := bin dags plugins tests bench

.DEFAULT_GOAL := help
.PHONY: help demo up down status clean test trust lint format bench venv venv-dev requirements

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: up  ## play the sample campaign through on a running Airflow
	@bin/env python bin/demo.py

up:  ## start PostgreSQL, Airflow and the mail and SFTP sinks; wait until they work
	@bin/stack up

down:  ## end exactly what was started
	@bin/stack down

status:  ## say what runs
	@bin/stack status

clean:  ## end everything and remove the state folder
	@bin/stack clean

test: lint  ## all checks and all tests, two files at a time; ARGS="-k name" are for pytest instead
	$(RUN) pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

trust: venv-dev  ## whole months: repeated, rehearsed, back-filled, doubled, in the long form; TRUST_SEED=7 for another
	TRUST=long $(RUN) pytest tests/trust $(ARGS)

lint: venv-dev  ## check without changing anything
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) sqlfluff lint --disable-progress-bar include
	$(RUN) mypy plugins
	$(RUN) codespell_lib $(wildcard $(SOURCES) include/sql *.md)

format: venv-dev  ## bring Python and SQL into shape
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) sqlfluff fix --disable-progress-bar include/sql

bench: venv-dev  ## run the benchmarks
	bin/env python -m bench $(ARGS)

venv:  ## make .venv, or bring it up to date
	@bin/stack venv

venv-dev:  ## the same, with what tests and checks need
	@bin/stack venv --dev

requirements:  ## pin anew what requirements*.in ask for (needs uv); UPGRADE=--upgrade for newer versions
	uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make requirements' $(UPGRADE) --output-file requirements.txt requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make requirements' $(UPGRADE) --output-file requirements-dev.txt requirements-dev.in
