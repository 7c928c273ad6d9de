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

.PHONY: install demo smollm2 test lint format bench clean

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

clean:
	rm -rf $(VENV) .surgery out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
