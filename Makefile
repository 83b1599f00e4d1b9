# Every target works from a fresh clone: it makes what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Arguments for pip where torch's CPU build is not what pip finds by itself, e.g.
# make run TORCH_PIP_ARGS="--index-url <the CPU index that pytorch.org/get-started names>"
TORCH_PIP_ARGS ?=

# The options of local start-up (docs/configuration.md) may stand on make's command line.
export CATALOG BUNDLE STATE MODEL_REPOSITORY HTTP_PORT GRPC_PORT METRICS_PORT MONGODB_URI MONGODB_PORT TUNING TRACE_URL TRACE_RATE DEMO_URL DEMO_HOST DEMO_PORT

.DEFAULT_GOAL := help
.PHONY: help install models engines quality eval caption-weight duplicate-threshold run demo smoke logs feedback metric import reembed sync-check images up down test test-fast test-slow test-containers test-nightly lint format bench ingest-bench scale live-changes overload plots flame-graphs tune loadtest perf alerts faults soak docs clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environment ------------------------------------------------------------------------------
# A marker a group of packages, so that a second start installs nothing.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)} and "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + "; choose one with PYTHON=python3.11")'
	@echo "Making an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "Installing torch, which builds the models"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(TORCH_PIP_ARGS) torch
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "Installing the server and what builds its models (a minute or two)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[cpu,local,build]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	@echo "Installing test tools"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[agents,demo,loadtest,rtx,test]'
	@touch $@

$(VENV)/.demo-installed: $(VENV)/.installed
	@echo "Installing what the page is made with"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[cpu,local,build,demo]'
	@touch $@

# nginx, promtool and Chromium, which tests run, in build/tools where the system has none. What cannot
# be had is named and is no failure here, and as there is no marker then, the next run tries again.
TOOLS := build/tools/.complete
$(TOOLS): tests/fetch_tools.py | $(BIN)/python
	@PYTHONPATH=. $(BIN)/python tests/fetch_tools.py

install: $(VENV)/.installed ## Make the environment in .venv

models: install ## Build the bundle's graphs into model_repository/
	@$(BIN)/python -m builders build $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(MODEL_REPOSITORY),--repository "$(MODEL_REPOSITORY)")

# gpu: TensorRT for the GPU at hand; rtx: TensorRT for RTX, which compiles without a GPU.
TARGET ?= gpu
EXTRA_gpu := tensorrt
EXTRA_rtx := rtx
$(VENV)/.rtx-installed $(VENV)/.gpu-installed: $(VENV)/.%-installed: $(VENV)/.installed
	@echo "Installing TensorRT"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$(EXTRA_$*)]'
	@touch $@

engines: $(VENV)/.$(TARGET)-installed models ## Compile TensorRT engines for the GPU at hand, or with TARGET=rtx without one
	@$(BIN)/python -m builders engines --target $(TARGET) $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(MODEL_REPOSITORY),--repository "$(MODEL_REPOSITORY)") $(foreach precision,$(PRECISION),--precision $(precision))

# cpu: the graphs alone; gpu: also the engines of the Triton at GRPC_URL, which runs the GPU profile.
PROFILE ?= cpu
GRPC_URL ?= 127.0.0.1:8001
SERVED_cpu =
SERVED_gpu = --served $(GRPC_URL) --platform tensorrt_plan

quality: $(VENV)/.test-installed models ## Compare FP32, FP16 and INT8 graphs with their originals (DATASET=folder: on its photos too)
	@$(BIN)/python -m builders quality $(if $(BUNDLE),--bundle "$(BUNDLE)") $(if $(DATASET),--dataset "$(DATASET)") $(if $(filter cpu gpu,$(PROFILE)),$(SERVED_$(PROFILE)),$(error PROFILE is cpu or gpu, not '$(PROFILE)'))

eval: $(VENV)/.test-installed models ## Measure how often products are found (DATASET=folder or .csv with CATALOG, STRANGERS=folder, ICONIC=yes, DIRECT=yes, SCENES=folder)
	@$(BIN)/python -m evaluation $(if $(DATASET),--dataset "$(DATASET)") $(if $(CATALOG),--catalog "$(CATALOG)") $(if $(STRANGERS),--strangers "$(STRANGERS)") $(if $(SCENES),--scenes "$(SCENES)") $(if $(filter yes,$(ICONIC)),--iconic) $(if $(filter yes,$(DIRECT)),--direct) $(if $(MODEL_REPOSITORY),--repository "$(MODEL_REPOSITORY)")

caption-weight: $(VENV)/.test-installed models ## Measure what captions in the query do to first matches (DATASET=folder: on its photos too)
	$(BIN)/python -m builders caption-weight $(if $(DATASET),--dataset "$(DATASET)")

duplicate-threshold: $(VENV)/.test-installed models ## Measure from which cosine on two pictures are copies (DATASET=folder: on its photos too)
	$(BIN)/python -m builders duplicate-threshold $(if $(DATASET),--dataset "$(DATASET)")

# --- serving ----------------------------------------------------------------------------------

run: install ## Serve locally: models, database, sample products, Triton (CATALOG=folder for others)
	@$(BIN)/python -m local_server run

# What decoding frees goes back to the system, as in the page's image.
RETURN_MEMORY = MALLOC_MMAP_THRESHOLD_=8388608 MALLOC_TRIM_THRESHOLD_=16777216

demo: $(VENV)/.demo-installed ## Open a page to try it, beside `make run` or with a server of its own (DEMO_PORT)
	@$(RETURN_MEMORY) $(BIN)/python -m demo

smoke: install ## Serve on free ports, match one photo, stop; fails if the match is wrong
	@$(BIN)/python -m local_server smoke

logs: install ## Show the latest matches and errors
	@$(BIN)/python -m local_server logs

feedback: install ## Show how good matches are by the feedback on them (QUERIES=file.csv PHOTOS=folder: queries for make eval)
	@$(BIN)/python -m local_server feedback $(if $(QUERIES),--queries "$(QUERIES)") $(if $(PHOTOS),--photos "$(PHOTOS)")

metric: install ## Fit the metric of the running server's catalogue (DRY_RUN=yes: only tell what it gains; VERSION=v or none: serve that one; LIST=yes)
	@$(BIN)/python -m local_server metric $(if $(filter yes,$(DRY_RUN)),--dry-run) $(if $(VERSION),--version "$(VERSION)") $(if $(filter yes,$(LIST)),--list) $(if $(URL),--url "$(URL)")

import: install ## Import a catalogue into the running server: make import CATALOG=folder
	@$(BIN)/python -m local_server import

reembed: install ## Compute vectors anew for products of another bundle, on the running server
	@$(BIN)/python -m local_server reembed

sync-check: install ## Compare the running server's index with its database (REPAIR=yes: repair it)
	@$(BIN)/python -m local_server sync-check $(if $(filter yes,$(REPAIR)),--repair) $(if $(URL),--url "$(URL)")

# --- containers -------------------------------------------------------------------------------
# What is to hold for each call may stand in this file, as `PROFILE = gpu` or
# `COMPOSE_FILES = docker/tls.yaml`.
-include docker/secrets/settings.mk
# Of docker/compose.yaml.
export GATEWAY_HTTP_PORT GATEWAY_GRPC_PORT DEMO_SHOWN_URL PROMETHEUS_PORT GRAFANA_PORT TRITON_MEMORY MONGODB_MEMORY

IMAGES = $(if $(filter cpu gpu,$(PROFILE)),$(PROFILE),$(error PROFILE is cpu or gpu, not '$(PROFILE)')) gateway $(if $(filter yes,$(DEMO)),demo)
# PIP_CONF and CA_BUNDLE name files that the build may need and that stay out of the images: pip's
# settings, and the authorities that sign what it downloads.
comma := ,
BUILD_ARGS = $(if $(BUNDLE),--build-arg BUNDLE="$(BUNDLE)") $(if $(TORCH_PIP_ARGS),--build-arg TORCH_PIP_ARGS="$(TORCH_PIP_ARGS)") $(if $(EXTRAS),--build-arg EXTRAS="$(EXTRAS)") $(if $(PIP_CONF),--secret id=pip.conf$(comma)src="$(PIP_CONF)") $(if $(CA_BUNDLE),--secret id=ca.crt$(comma)src="$(CA_BUNDLE)") $(DOCKER_BUILD_ARGS)
images: ## Build the container images (PROFILE=gpu, BUNDLE, EXTRAS=milvus, DEMO=yes, PIP_CONF, CA_BUNDLE, DOCKER_BUILD_ARGS)
	@docker/check-engine.sh
	$(foreach image,$(IMAGES),DOCKER_BUILDKIT=1 docker build $(BUILD_ARGS) -f docker/Dockerfile --target $(image) -t product-match:$(image) . &&) true

# COMPOSE_FILES: further ones, without blanks in their names.
COMPOSE = docker compose $(foreach file,docker/compose.yaml $(if $(filter gpu,$(PROFILE)),docker/gpu.yaml) $(COMPOSE_FILES),-f $(file))
up: images ## Run the whole service in containers, with the sample products (as images; SAMPLE=no: without them; COMPOSE_FILES)
	@docker/make-secrets.sh
	$(COMPOSE) $(if $(filter yes,$(DEMO)),--profile demo) up --detach --wait --remove-orphans
	$(if $(filter no,$(SAMPLE)),,$(COMPOSE) run --rm import)

down: ## Stop the containers; their data stay
	$(COMPOSE) --profile '*' down

# --- checks -----------------------------------------------------------------------------------

# Helm's library brings Go's runtime, which crashes now and then beside inference libraries; its
# tests have a process of their own.
CHART_TESTS := tests/helm
# Of the tests' markers.
QUICK := not slow and not nightly and not containers

test: $(VENV)/.test-installed $(TOOLS) models ## Run all tests but the slow ones, against real servers
	$(BIN)/python -m pytest -m "$(QUICK)" --ignore $(CHART_TESTS)
	$(BIN)/python -m pytest -m "$(QUICK)" $(CHART_TESTS)

test-fast: $(VENV)/.test-installed $(TOOLS) models ## Run the tests that need no server
	$(BIN)/python -m pytest -m "not server and $(QUICK)" --ignore $(CHART_TESTS)
	$(BIN)/python -m pytest -m "not server and $(QUICK)" $(CHART_TESTS)

test-slow: $(VENV)/.test-installed $(TOOLS) models ## Run the slow tests, most of which kill parts of a server
	$(BIN)/python -m pytest -m slow

test-nightly: $(VENV)/.test-installed $(TOOLS) models ## Run what only takes long: true-size engines, every fault, load tools, many random inputs
	$(BIN)/python -m pytest -m nightly
	$(BIN)/python -m pytest -m fuzz --hypothesis-profile=many tests/fuzz
	$(MAKE) test-containers

test-containers: $(VENV)/.test-installed ## Build the images, run the service in containers and break it (as root, with Docker's programs)
	$(BIN)/python -m pytest -m containers tests/containers

lint: $(VENV)/.test-installed ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test-installed ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# --- load -------------------------------------------------------------------------------------

bench: $(VENV)/.test-installed models ## Measure product_match against a raw pipeline and two FastAPI services
	$(BIN)/python -m loadtest.bench

ingest-bench: $(VENV)/.test-installed models ## Measure what importing a catalogue costs beside decoding and encoding
	$(BIN)/python -m loadtest.ingest_bench

# A BLAS thread a CPU would fight with FAISS's own, as it does not inside Triton.
scale: $(VENV)/.test-installed models ## Measure what a search costs as the catalogue grows (SIZES="1000 10000", ENGINE=milvus)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m loadtest.$(if $(filter milvus,$(ENGINE)),milvus_scale,catalogue_scale) $(if $(SIZES),--sizes $(SIZES))

live-changes: $(VENV)/.test-installed models ## Measure matches while the catalogue changes, and how soon changes are seen
	$(BIN)/python -m loadtest.live_changes

overload: $(VENV)/.test-installed models ## Measure what becomes of requests when there are too many
	$(BIN)/python -m loadtest.overload

plots: $(VENV)/.test-installed ## Draw reports/bench.json, catalogue_scale.json and overload.json
	$(BIN)/python -m loadtest.bench_plot

flame-graphs: $(VENV)/.test-installed models ## Draw what each process does under load (needs perf, as of Debian's linux-perf)
	$(BIN)/python -m loadtest.flame_graph

tune: $(VENV)/.test-installed models ## Measure which instance and thread counts are fastest here; make run then uses them
	$(BIN)/python -m loadtest.tune

# Each with a server of its own on free ports; URL=http://host:port or grpc://host:port names another.
USERS ?= 8
RATE ?= 4
TIME ?= 60s
SHAPE ?= steady
PROTOCOL ?= http
LOAD_SOURCES = $(if $(URL),--url "$(URL)") $(if $(CATALOG),--catalog "$(CATALOG)") $(if $(PHOTOS),--photos "$(PHOTOS)")

loadtest: $(VENV)/.test-installed models ## Many users with locust (USERS, TIME, SHAPE, MIX, P99_MS and more: docs/benchmarks.md)
	$(BIN)/python -m loadtest.traffic --users $(USERS) --rate $(RATE) --time $(TIME) --shape $(SHAPE) --protocol $(PROTOCOL) $(if $(MIX),--mix "$(MIX)") $(if $(P99_MS),--p99-ms $(P99_MS)) $(LOAD_SOURCES)

perf: $(VENV)/.test-installed models ## Sweep load with perf_analyzer: CSV and plot (PHOTOS, URL=grpc://host:port)
	$(BIN)/python -m loadtest.perf $(LOAD_SOURCES)

alerts: export PATH := $(CURDIR)/build/tools/promtool/usr/bin:$(PATH)
alerts: $(TOOLS) ## Evaluate the alerts' scenarios with promtool
	promtool check rules helm/product-match/rules/product-match.yaml
	promtool test rules tests/helm/alert_scenarios.yaml
	promtool check config --syntax-only docker/prometheus.yaml

# Each breaks or loads a server of its own; the settings of a running one play no part.
SECONDS ?= 60
MINUTES ?= 5

faults: $(VENV)/.test-installed models ## Kill parts of a real server under load and account for every request (SECONDS)
	$(BIN)/python -m loadtest.faults --seconds $(SECONDS)

soak: $(VENV)/.test-installed models ## Match, write and delete at random, then many clients at once; check answers, logs, index and memory (MINUTES each)
	$(BIN)/python -m loadtest.soak --minutes $(MINUTES) --storm-minutes $(MINUTES)

docs: $(VENV)/.test-installed ## Write the references in docs/ from the code and the chart
	$(BIN)/python -m local_server.reference > docs/configuration.md
	$(BIN)/python -m local_server.chart_reference

clean: ## Remove built models, local state and the environment
	rm -rf $(VENV) .state build reports model_repository/bundle.json
	rm -f model_repository/*/1/*.onnx model_repository/*/1/*.plan* model_repository/*/1/*.npy model_repository/*/1/tokenizer.json
