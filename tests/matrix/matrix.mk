# Included by the Makefile of the root.
FLOOR := .venv-floor
FLOOR_VERSION := 5.5.4

.PHONY: matrix matrix-floor

# every family x every method, on the newest transformers that is installed
matrix: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/matrix -m "" -n $(JOBS)

# the covering subset on the oldest transformers we declare, in an environment of its own
matrix-floor: $(FLOOR)/.installed
	OMP_NUM_THREADS=1 $(FLOOR)/bin/python -m pytest tests/matrix -n $(JOBS)

$(FLOOR)/.installed: pyproject.toml
	$(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --upgrade pip uv
	VIRTUAL_ENV=$(CURDIR)/$(FLOOR) $(FLOOR)/bin/uv pip install --quiet -e ".[dev]" "transformers==$(FLOOR_VERSION)"
	touch $(FLOOR)/.installed

# the proofs, the covering subset and the engine proofs on every minor version of transformers; VERSIONS="5.5 5.24" picks
.PHONY: sweep test-floor
sweep: $(STAMP)
	$(BIN)/python tests/tools/sweep.py $(VERSIONS)

# the oldest and the two newest, which `make test` has no time for
test-floor: $(STAMP)
	$(BIN)/python tests/tools/sweep.py 5.5 5.23 5.24
