# Needs only Python >= 3.10 with pip and venv. Everything goes into .venv; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EVAL := $(VENV)/.installed-eval
# the folders of the root as the one package they become, for mypy, which does not follow editable installs
TREE := $(VENV)/tree/vtc
JOBS ?= 2

# exact versions the suite passed on; CONSTRAINTS= installs the newest of everything instead
CONSTRAINTS ?= constraints.txt
PIN := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
FRESH := .venv-constraints
EXTRAS := dev,eval,demo,train,calibrate,video

.PHONY: demo test fuzz lint clean constraints soak pages pictures

demo: $(STAMP)
	$(BIN)/python -m vtc.demos.main_job out

test: lint $(EVAL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

# random inputs, a minute per fuzzer: VTC_FUZZ_SECONDS=3600 for an hour, VTC_FUZZ_SEED=1000 for other ones
VTC_FUZZ_SECONDS ?= 60
fuzz: $(STAMP)
	VTC_FUZZ_SECONDS=$(VTC_FUZZ_SECONDS) VTC_FUZZ_SEED=$(VTC_FUZZ_SEED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -n $(JOBS)

lint: $(STAMP)
	$(BIN)/ruff check .
	rm -rf $(TREE) && mkdir -p $(TREE)
	ln -s $(CURDIR)/vtc/* $(addprefix $(CURDIR)/,adapters kernels eval demos) $(TREE)
	cd $(TREE)/.. && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet $(PIN) -e ".[dev]"
	touch $(STAMP)

include tests/matrix/matrix.mk

# lmms-eval brings some ninety packages along, which only the tests of vtc.eval.lmms need
$(EVAL): $(STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet $(PIN) -e ".[dev,eval]"
	touch $(EVAL)

# the newest of everything that pyproject.toml allows; run `make test` on it before committing the file
constraints:
	rm -rf $(FRESH) && $(PYTHON) -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --quiet --upgrade pip uv
	VIRTUAL_ENV=$(CURDIR)/$(FRESH) $(FRESH)/bin/uv pip install --quiet -e ".[$(EXTRAS)]"
	$(FRESH)/bin/python tests/tools/constraints.py > constraints.txt
	rm -rf $(FRESH)

# mixed calls for MINUTES, every answer compared with the one computed alone; writes docs/reliability.md
MINUTES ?= 60
soak: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m vtc.eval.soak --minutes $(MINUTES) --page docs/reliability.md

# what the registries say: the table in the README, docs/families.md
pages: $(STAMP)
	$(BIN)/python -m vtc.support
	$(BIN)/python -m vtc.families
	$(BIN)/python -m vtc.cards

pictures: $(STAMP)
	$(BIN)/python -m vtc.eval.method_pictures

clean:
	rm -rf $(VENV) $(FRESH) out build dist *.egg-info
