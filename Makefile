# Needs only Python >= 3.10 with pip and venv. Everything goes into .venv; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EVAL := $(VENV)/.installed-eval
# the folders of the root as the one package they become, for mypy, which does not follow editable installs
TREE := $(VENV)/tree/vtc
JOBS ?= 2

.PHONY: demo test lint clean

demo: $(STAMP)
	$(BIN)/python -m vtc.demos.main_job out

test: lint $(EVAL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(STAMP)
	$(BIN)/ruff check .
	rm -rf $(TREE) && mkdir -p $(TREE)
	ln -s $(CURDIR)/vtc/* $(addprefix $(CURDIR)/,adapters kernels eval demos) $(TREE)
	cd $(TREE)/.. && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet -e ".[dev]"
	touch $(STAMP)

# lmms-eval brings some ninety packages along, which only the tests of vtc.eval.lmms need
$(EVAL): $(STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet -e ".[dev,eval]"
	touch $(EVAL)

include tests/matrix/matrix.mk

clean:
	rm -rf $(VENV) out build dist *.egg-info
