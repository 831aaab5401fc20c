# Two commands a user needs: `make quickstart` and `make test`. Both set up .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test slow docs format clean help

help:
	@echo "make quickstart  find an activation function for a small network (about 2 minutes)"
	@echo "make test        ruff, mypy and pytest"
	@echo "make slow        the tests that make test leaves out"
	@echo "make docs        the documentation as a site, in site/"
	@echo "make format      let ruff format the code"
	@echo "make clean       remove the environment and what the examples wrote"

quickstart: $(READY)
	$(BIN)/python examples/quickstart.py

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The variable silences a notice of the theme's that is not about this build.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# uv pairs torch with the torchvision that fits it; plain pip can take two that do not.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) site quickstart_output multi_objective_output
