# `make demo` and `make test` need nothing but Python 3.11 or newer: they make .venv and install into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test quality style clean

demo: $(VENV)/installed
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		recipes/finetune_ast.py recipes/configs/demo.yaml --overwrite

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

quality: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hfmgc needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	touch $@

# DeepSpeed compiles its operations when they are first used; building them here would need a GPU's compiler.
$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install "setuptools>=77,<91" "wheel<1" ninja py-cpuinfo hjson
	$(PIP) install --editable ".[dev]"
	DS_BUILD_OPS=0 $(PIP) install --no-build-isolation --editable ".[deepspeed]"
	touch $@
