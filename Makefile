# The words of the README. `make serve` and `make test` do all the set-up on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data/imdb
TWEETS ?= data/gop/Sentiment.csv
RUNS ?= runs
# VALENCE_HOST and VALENCE_PORT of the environment hold unless HOST or PORT is given to make. (HOST of
# the environment does not count: some shells set it to the name of the machine.)
HOST := $(or $(VALENCE_HOST),127.0.0.1)
PORT := $(or $(VALENCE_PORT),8000)
IMAGE ?= valence
USERS ?= 16
DURATION ?= 1m

FETCH := $(BIN)/valence-train fetch imdb gets them, or name a folder, DATA=...

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup serve test accuracy compatibility check format lock train tweets bench load image manifests clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# What is installed is told by two stamps; either goes stale when its lock or the metadata changes.
SERVING := $(VENV)/serving.stamp
EVERYTHING := $(VENV)/everything.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 13) else "Valence needs Python 3.11 to 3.13. " \
	  f"Received: {v[0]}.{v[1]}. Name another one: make PYTHON=python3.13")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: Python cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

$(SERVING): requirements/serve.txt pyproject.toml | $(BIN)/python
	@echo "Installing what serving needs (half a minute)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/serve.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(EVERYTHING): requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing everything (a few minutes)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@ $(SERVING)

setup: $(EVERYTHING) ## everything installed into .venv

serve: $(SERVING) ## the service on HOST:PORT with the models in models/
	@VALENCE_HOST=$(HOST) VALENCE_PORT=$(PORT) exec $(BIN)/python -m app serve

test: $(EVERYTHING) ## the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

accuracy: $(EVERYTHING) ## the bundled models on the IMDB test reviews, through HTTP (needs the data)
	@test -d $(DATA) || { echo "make: there are no reviews in $(DATA): $(FETCH)" >&2; exit 1; }
	@VALENCE_DATA=$(abspath $(DATA)/..) $(BIN)/python -m pytest -s -m slow tests/process/test_accuracy.py

compatibility: $(EVERYTHING) ## the HTTP tests with the lowest and the newest uvicorn that is allowed
	@.ci/uvicorn $(ARGS)

check: $(EVERYTHING) ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(EVERYTHING) ## put the code into its format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## both requirements files anew, from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" --extra onnx --extra install \
	  --output-file requirements/serve.txt pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" --constraint requirements/serve.txt \
	  --extra onnx --extra tensorflow --extra install --extra train --extra load --extra dev \
	  --output-file requirements/dev.txt pyproject.toml

train: $(EVERYTHING) ## the default recipes trained anew on DATA, exported into models/ and evaluated
	@test -d $(DATA) || { echo "make: there are no reviews in $(DATA): $(FETCH)" >&2; exit 1; }
	@for recipe in bow bow_ngrams lstm; do \
	  $(BIN)/python -m training train --config $$recipe --data $(DATA) --run $(RUNS)/$$recipe && \
	  version=$$($(BIN)/python -m training export --run $(RUNS)/$$recipe --models models) && \
	  $(BIN)/python -m training evaluate "$$version" --data $(DATA) || exit 1; done

tweets: $(EVERYTHING) ## `tweets-lstm` trained anew on TWEETS, exported and evaluated beside what leaks
	@test -f $(TWEETS) || { echo "make: there are no tweets in $(TWEETS); name the file, TWEETS=..." >&2; exit 1; }
	@$(BIN)/python -m training train --config tweets_lstm --data $(TWEETS) --test-share 0.15 --run $(RUNS)/tweets-lstm && \
	  version=$$($(BIN)/python -m training export --run $(RUNS)/tweets-lstm --models models) && \
	  $(BIN)/python -m training evaluate "$$version" --data $(TWEETS) --test-share 0.15 --baselines --leaking

bench: $(EVERYTHING) ## the service beside its in-process ceiling and a bare HTTP route
	@$(BIN)/python -m load_tests.bench --out $(RUNS)/bench $(ARGS)

load: $(EVERYTHING) ## a Locust run against HOST:PORT, with its report in runs/load.html
	@$(BIN)/python -c 'import urllib.request as u; u.urlopen("http://$(HOST):$(PORT)/readyz")' 2>/dev/null || { \
	  echo "make: no ready service at $(HOST):$(PORT); start one in another terminal: make serve" >&2; exit 1; }
	@mkdir -p $(RUNS)
	@$(BIN)/locust -f load_tests/locustfile.py --headless --host http://$(HOST):$(PORT) \
	  --users $(USERS) --spawn-rate $(USERS) --run-time $(DURATION) --html $(RUNS)/load.html

image: ## the container image
	docker build --tag $(IMAGE) \
	  --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' app/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD) .

manifests: $(EVERYTHING) ## every overlay of k8s/ rendered and validated
	@$(BIN)/python -m pytest tests/contract/test_manifests.py

clean: ## remove what make made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
