# make demo: segment a real CT with the starter weights. make test: every check and test.
# Both build .venv first (CPU torch); set PYTHON to choose another interpreter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := 2.13.0

.PHONY: demo test check install clean

demo: $(VENV)/.ready
	$(BIN)/python scripts/demo.py $(if $(CT),"$(CT)")

test: $(VENV)/.ready
	$(BIN)/python -m pip check
	scripts/check
	$(BIN)/python -m pytest

check: $(VENV)/.ready
	scripts/check

install: $(VENV)/.ready

# torch first and alone: a wider request would let pip take a CUDA build of several gigabytes.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	scripts/install_torch $(BIN)/python $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo
