# make up       install what is needed, index the examples (or DOCS=/path) and serve on 127.0.0.1:8000
#               INDEX=elasticsearch: with that index instead of the embedded one
# make test     the whole suite, with what it needs
# make test-vllm   what needs vLLM, which it installs (6 GB) and gives a small model that it trains
# make check    style, types, import directions and fast tests: under two minutes
# make scan     known holes in the packages of the server and its images (asks PyPI)
# make rivals   the environment of what `python -m benchmarks.rivals` compares with (6 GB; torch comes with CUDA)
# make requirements   resolve the dependencies anew and write the hashed files

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RIVALS := .rivals
# The uv that is there, else one of our own, installed by pip.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes

# Some images set it: then each start of `kb` compiles all its packages anew, 3.8 s instead of 1.5.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: rivals up test test-vllm check lint format scan requirements clean

# INDEX=elasticsearch starts one of our own, whose data stay in the data folder, unless KB_INDEX__URL is set.
up: $(VENV)/core.installed
ifeq ($(INDEX),elasticsearch)
	@export KB_INDEX__KIND=elasticsearch; \
	if [[ -z "$${KB_INDEX__URL:-}" ]]; then \
		KB_INDEX__URL=$$(deploy/elasticsearch/start "$${KB_DATA_DIR:-data}/elasticsearch"); \
		export KB_INDEX__URL; \
	fi; \
	$(BIN)/kb up $(if $(DOCS),--docs "$(DOCS)")
else
	@$(BIN)/kb up $(if $(DOCS),--docs "$(DOCS)")
endif

# Two at a time, as many wait for servers. Each process starts servers of its own, and takes whole files,
# in their order: fast tests first.
TEST_PROCESSES ?= 2
test: $(VENV)/test.installed lint
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "not vllm"

test-vllm: $(VENV)/test.installed
	$(BIN)/pytest -m vllm

check: lint
	$(BIN)/pytest -q -n auto -m "not slow and not browser and not nginx and not redis and not postgresql and not elasticsearch and not torch and not spark and not vllm"

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

SCAN := .scan
# --strict: what PyPI can't be asked about is a failure. Without it nothing was scanned where PyPI is away, and all was well.
scan: $(SCAN)/installed
	for list in requirements/core.txt deploy/docker/{server,gpu,spark}.txt; do \
		$(SCAN)/bin/pip-audit --strict --disable-pip --require-hashes --requirement "$$list"; \
	done

$(SCAN)/installed: deploy/ci/scan.txt | $(UV)
	$(UV) venv --quiet --clear --no-python-downloads --python '>=3.11,<3.14' $(SCAN)
	$(UV) pip install --quiet --python $(SCAN)/bin/python --require-hashes -r $<
	@touch $@

$(VENV)/core.installed: requirements/core.txt pyproject.toml | $(BIN)/python
	$(INSTALL) -r requirements/core.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.installed: requirements/dev.txt $(VENV)/core.installed
	$(INSTALL) -r requirements/dev.txt
	@touch $@

$(VENV)/test.installed: requirements/test.txt $(VENV)/dev.installed
	$(INSTALL) -r requirements/test.txt
	@touch $@

rivals: $(RIVALS)/installed

# LlamaIndex again, as copies: nltk refuses data that are hard links to a cache.
$(RIVALS)/installed: benchmarks/rivals/requirements.txt | $(UV)
	$(UV) venv --quiet --clear --no-python-downloads --python '>=3.11,<3.14' $(RIVALS)
	$(UV) pip install --quiet --python $(RIVALS)/bin/python --require-hashes -r $<
	$(UV) pip install --quiet --python $(RIVALS)/bin/python --require-hashes -r $< \
		--reinstall-package llama-index-core --link-mode copy
	@touch $@

$(BIN)/python: | $(UV)
	$(UV) venv --quiet --no-python-downloads --python '>=3.11,<3.14' $(VENV)

.uv/bin/uv: requirements/uv.txt
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --require-hashes -r requirements/uv.txt

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make requirements"

requirements: | $(UV)
	$(COMPILE) pyproject.toml --group build -o requirements/core.txt
	$(COMPILE) pyproject.toml --group build --group dev -c requirements/core.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra spark --extra torch --group build --group dev --group torch-test \
		-c requirements/dev.txt -o requirements/test.txt
	echo uv | $(COMPILE) - -o requirements/uv.txt
	$(COMPILE) pyproject.toml --extra redis --extra otel -c requirements/test.txt -o deploy/docker/server.txt
	$(COMPILE) pyproject.toml --extra redis --extra otel --extra torch -c requirements/test.txt -o deploy/docker/gpu.txt
	$(COMPILE) pyproject.toml --extra redis --extra otel --extra spark -c requirements/test.txt -o deploy/docker/spark.txt
	echo setuptools | $(COMPILE) - --group build -c requirements/core.txt -o deploy/docker/build.txt
	$(COMPILE) deploy/checks/tools.in -o deploy/checks/tools.txt
	$(COMPILE) deploy/checks/go.in -o deploy/checks/go.txt
	$(COMPILE) deploy/ci/scan.in -o deploy/ci/scan.txt
	$(COMPILE) deploy/open-inference/server.in -o deploy/open-inference/server.txt
	$(COMPILE) --override deploy/vllm/cpu-overrides.txt deploy/vllm/cpu.in -o deploy/vllm/cpu.txt
	$(COMPILE) deploy/vllm/gpu.in -o deploy/vllm/gpu.txt
	$(COMPILE) benchmarks/rivals/requirements.in -c requirements/test.txt -o benchmarks/rivals/requirements.txt

clean:
	rm -rf $(VENV) $(RIVALS) $(SCAN) .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
