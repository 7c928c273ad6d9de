# Two commands matter on a fresh machine, and each does all of its set-up:
#   make demo    compiles specs/quickstart.surg on the embedded model
#   make test    runs every test
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
# Two OpenMP threads that spin on a busy machine run at half speed; see README, "Threads".
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT  := 0

.PHONY: install demo smollm2 test lint format bench engines test-engines clean

install: $(STAMP)

$(STAMP): pyproject.toml .ci/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints-cpu.txt --editable '.[demo,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/surgery compile specs/quickstart.surg -o out/quickstart

smollm2: install
	$(BIN)/surgery compile specs/smollm2-135m.surg -o out/smollm2-diet

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# Times of the language tools, side by side with what they are to be compared with.
bench: install
	$(BIN)/python tests/bench/editor.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Engines on the CPU, to hold children against: 3.5 GB, a few minutes. A venv of its own, because
# vLLM pins older versions of what the compiler uses. pip has to find CPU builds of torch.
ENGINES := .venv-engines
SERVING := $(ENGINES)/.installed

engines: $(SERVING)

$(SERVING): .ci/engines.txt
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --requirement .ci/engines.txt
# vLLM asks for torchvision and its kin and gets builds for CUDA, which break the import of every
# model: "operator torchvision::nms does not exist". Text needs none of them.
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
# Without dependencies: who serves needs the runtime and its vLLM plugin, not the compiler.
	$(ENGINES)/bin/python -m pip install --quiet --no-deps --editable .
	touch $(SERVING)

# About three minutes; `-s` shows the figures.
test-engines: install engines
	$(ENGINES)/bin/python -m pytest -s tests/engines

clean:
	rm -rf $(VENV) $(ENGINES) .surgery out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
