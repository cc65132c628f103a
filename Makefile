# The commands of the CheXNet book. `make book` and `make test` do all their set-up themselves.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -p no:nbval

# A second thread gains the book's small networks a tenth where the machine is at rest, and costs them
# most of their time where it is not, since the two wait for one another at every layer.
ONE_EACH := OMP_NUM_THREADS=1

# Notebooks are built without fetched files, so that the book is the same on every machine.
UNFETCHED := CHEXLIB_DATA=$(CURDIR)/_build/nothing-fetched

.DEFAULT_GOAL := help
.PHONY: book test lab check bench tables notebooks lock clean help

book: $(READY)  ## run the notebooks and write the site to _build/html
	@mkdir -p _build
	@find chexlib data book/figures requirements.lock -type f ! -name '*.pyc' -exec cksum {} + | sort > _build/inputs.new
	@cmp -s _build/inputs.new _build/inputs || rm -rf _build/.jupyter_cache
	@mv _build/inputs.new _build/inputs
	@rm -rf _build/html _build/.doctrees _build/jupyter_execute  # a second run over them hides warnings
	$(UNFETCHED) $(ONE_EACH) $(BIN)/python tools/run_ahead.py 2>_build/run_ahead.log
	$(UNFETCHED) $(ONE_EACH) $(BIN)/jupyter-book build . -W -n --keep-going

test: $(READY)  ## check the code, compare the notebooks with their outputs, run every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(UNFETCHED) $(ONE_EACH) $(BIN)/python -m pytest --nbval --nbval-current-env -n 2 --dist loadscope book
	$(ONE_EACH) $(PYTEST) -n 3 --dist loadfile --doctest-modules --cov --cov-report=term:skip-covered --cov-fail-under=97 chexlib tests

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab book

check: $(READY)  ## ruff, notebook hygiene, dependencies in step, links of the built site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -q -m "not browser" tests/test_notebooks.py tests/test_environment.py tests/test_site.py

bench: $(READY)  ## run the side-by-side measurements
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

tables: $(READY)  ## rebuild the tables of figures in data/ (needs `chexlib fetch`)
	$(BIN)/python data/make_tables.py

notebooks: $(READY)  ## run the notebooks in place, as they are committed
	$(UNFETCHED) $(ONE_EACH) $(BIN)/python tools/run_notebooks.py book/*.ipynb

lock: $(READY)  ## write requirements.lock from what is installed in .venv
	$(BIN)/python tools/lock.py

clean:  ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*##/make \1:/p' Makefile | column -t -s:

# Made once, and again when a dependency changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || { echo \
	  "Expected Python 3.11.5 or later, got $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@
