# make             says what there is
# make VARIABLE=…  PYTHON: the interpreter for .venv instead of the lowest one from 3.11 on

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Our warnings are errors here; IBKR_OAUTH_WERROR=0 is for a compiler that knows more of them than we do.
export IBKR_OAUTH_WERROR ?= 1
export PYTHON
BIN := .venv/bin
DIST ?= dist
SOURCES := $(wildcard csrc/platform/*.c csrc/core/*.c csrc/http/*.c csrc/session/*.c csrc/binding/*.c)
HEADERS := $(wildcard csrc/*/*.h csrc/include/ibk/*.h)
C_FILES := $(SOURCES) $(HEADERS) $(wildcard tests/c/*.[ch] tests/fuzz/*.[ch])

# $(call quietly,TITLE,COMMAND): one line on the terminal; what the command prints goes to build/log, and is shown if it fails.
define quietly
	@mkdir -p build/log build/done && echo '-- $(1)' && log='build/log/$(notdir $@).log' && \
	{ $(2); } >"$$log" 2>&1 || { cat "$$log"; exit 1; }
endef

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1#/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "make %-20s %s\n", $$1, $$2 }'

demo: .venv/demo build/done/extension ## every leg of the log-in against the sandbox, shown step by step
	@$(BIN)/ibkr-oauth demo

test: build/done/test build/done/browser .venv/all build/done/extension ## every test: C, Python, sanitizers, layers, types, style, wheel
	@$(BIN)/python -m pytest -m 'not slow and not wheel'

test-slow: build/done/test .venv/all build/done/extension ## those that take minutes: a prime search, the binding under sanitizers, properties at length
	@$(BIN)/python -m pytest -m slow
	@$(BIN)/python -m pytest tests/properties --hypothesis-profile=long

bench: .venv/all build/done/extension ## measures against other people's code; a quick look: BENCH="--turns 2"
	@$(BIN)/python -m pytest benchmarks --figures build/figures.json $(BENCH)

bench-report: .venv/all build/done/extension ## page and plots in docs/, from the last `make bench` here, or from what is kept
	@$(BIN)/python -m benchmarks.report $(wildcard build/figures.json)

check-c: build/done/test ## the unit tests of the C core
	@$(MAKE) -C csrc -j$$(getconf _NPROCESSORS_ONLN) check

# Slow proof. What each of them shows, and what not: docs/proof.md.

WATCHED := $(BIN)/python tests/watched/run.py
CHECK = $(MAKE) -C csrc -j$$(getconf _NPROCESSORS_ONLN) check

check-asan: build/done/test .venv/all ## C and Python tests under the address, leak and undefined behaviour sanitizers
	@$(CHECK) SAN=address,undefined
	@$(WATCHED) asan $(PATHS)

check-ubsan: build/done/test .venv/all ## C tests, and those of binding and units, under the undefined behaviour sanitizer alone
	@$(CHECK) SAN=undefined
	@$(WATCHED) ubsan $(PATHS)

check-tsan: build/done/test ## C tests under the thread sanitizer
	@$(CHECK) SAN=thread

check-valgrind: build/done/test build/done/analyze .venv/made ## C tests, and those of the binding, under valgrind's memcheck
	@$(MAKE) -C csrc memcheck
	@$(WATCHED) valgrind $(PATHS)

check-references: build/done/analyze .venv/made ## the binding in a debug build of Python: references and native handles after each test
	@$(WATCHED) references $(PATHS)

check-constant-time: build/done/test ## our own handling of secrets takes the same time for all of them
	@$(MAKE) -C csrc constant-time

matrix: build/done/test .venv/all build/freethreaded/made ## WHEEL, or one built here, on every CPython of this machine; the binding without a GIL
	@IBKR_OAUTH_WHEEL='$(WHEEL)' $(BIN)/python -m pytest tests/build/test_wheel.py
	@$(WATCHED) threads

CPPCHECK_FLAGS := -q --std=c11 --enable=warning,performance,portability --error-exitcode=1 -Icsrc/include
analyze: build/done/analyze lint-tidy ## gcc -fanalyzer, cppcheck and clang-tidy over all of our C
	$(call quietly,gcc -fanalyzer,CC=gcc CFLAGS=-fanalyzer $(BIN)/python setup.py -q build_ext --force \
	    --build-lib build/analyzed --build-temp build/analyzed/objects)
	$(call quietly,cppcheck,cppcheck $(CPPCHECK_FLAGS) $(SOURCES))

fuzz: build/done/fuzz .venv/fuzz build/done/extension ## all that takes text from outside: FUZZ="--cpu-seconds 600 --jobs 2 url"
	@$(MAKE) -C csrc -j$$(getconf _NPROCESSORS_ONLN) fuzzers CC="$${CLANG:-clang}"
	@$(BIN)/python tests/fuzz/run.py $(FUZZ)

fuzz-afl: build/done/afl .venv/made ## the same files driven by AFL++: FUZZ="--cpu-seconds 120 url"
	@$(MAKE) -C csrc -j$$(getconf _NPROCESSORS_ONLN) fuzzers CC="$${AFL_CC:-afl-clang-fast}"
	@$(BIN)/python tests/fuzz/run.py --afl $(FUZZ)

audit: .venv/all ## known holes in the Python packages that are installed; asks the Internet: AUDIT="-s osv"
	@$(BIN)/python tests/build/audit.py $(AUDIT)

mutate: .venv/all build/done/extension ## changes what decides about retries, expiry, signatures; tests must notice: MUTATE="flow"
	@nice -n 19 $(BIN)/python tests/mutation/run.py $(MUTATE)

coverage: build/done/test .venv/all ## which lines and branches the tests run, in C and in Python; what they do not, and why
	@$(BIN)/python tests/coverage/run.py

lint: lint-python lint-types lint-layers lint-format lint-tidy ## style, types, layers and static analysis

lint-python: .venv/all
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lint-types: .venv/all build/done/extension
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python

lint-layers: .venv/all
	$(BIN)/python csrc/tools/check_layers.py

lint-format: .venv/all
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

TIDY_FLAGS = -std=c11 -Icsrc/include -DPy_LIMITED_API=0x030B0000 $$($${PKG_CONFIG:-pkg-config} --cflags libcrypto libcurl) \
	-isystem $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
lint-tidy: .venv/all
	$(call quietly,clang-tidy,printf '%s\n' $(SOURCES) | xargs -P 2 -I FILE $(BIN)/clang-tidy --quiet FILE -- $(TIDY_FLAGS))

format: .venv/all ## rewrites Python and C in the project's style
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

wheel: build/done/wheel .venv/all ## one wheel for every CPython from 3.11 on, OpenSSL and libcurl inside, in dist/; ten minutes the first time
	$(call quietly,building the wheel with its libraries,csrc/bundle/wheel.sh $(BIN)/python '$(DIST)')
	@tail -n 20 build/log/wheel.log

wheel-system: .venv/all ## the same with the OpenSSL and libcurl of this system, for this system only
	@rm -rf build/lib build/lib.* build/bdist.*
	$(call quietly,building the wheel,$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir '$(DIST)' .)

sdist: .venv/made ## the sources as one archive, in dist/
	$(call quietly,packing the sources,$(BIN)/python csrc/bundle/sdist.py '$(DIST)')

check-wheel: build/done/wheel .venv/all build/done/extension ## the wheel where there is no compiler: as root, with debootstrap; half an hour
	@$(BIN)/python -m pytest -m wheel

bundle-pins: build/done/wheel ## newer OpenSSL, curl and zlib for the wheel: the newest that can be had, into csrc/bundle/sources.txt
	@csrc/bundle/fetch.sh pins

docs: .venv/docs build/done/extension ## these pages as a site, in build/docs/html; every warning is an error
	$(call quietly,building the documentation,$(BIN)/python -m sphinx -E -a -b html -W -n --keep-going -d build/docs/doctrees docs build/docs/html)

notebooks: build/done/browser .venv/all build/done/extension ## pictures of the example notebooks: for the docs, and all of them in build/notebooks
	$(call quietly,running the notebooks and taking pictures,$(BIN)/python docs/notebook_pictures.py && $(BIN)/python docs/notebook_pictures.py build/notebooks)

screenshots: build/done/browser .venv/all build/done/extension ## pictures of the login, consent and redirect pages, in docs/images
	$(call quietly,taking pictures,$(BIN)/python docs/screenshots.py)

clean: ## removes everything that make made, .venv too
	rm -rf .venv build dist *.egg-info ibkr_oauth/*.so .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find ibkr_oauth tests benchmarks csrc -name __pycache__ -prune -exec rm -rf {} +

# Set-up: done once, and again when what it depends on changes.

build/done/build build/done/test build/done/fuzz build/done/afl build/done/wheel build/done/analyze build/done/matrix: build/done/%: csrc/tools/system.sh csrc/tools/pythons.sh
	$(call quietly,looking for compiler and libraries ($*),csrc/tools/system.sh $*)
	@touch $@

# Without a browser the tests that need one are skipped: what to install is said, and nothing fails.
build/done/browser: csrc/tools/system.sh
	@mkdir -p build/log build/done && echo '-- looking for a browser' && csrc/tools/system.sh browser >build/log/browser.log 2>&1 && touch $@ || \
	    tail -n 8 build/log/browser.log

build/freethreaded/made: csrc/tools/freethreaded.sh | build/done/matrix
	$(call quietly,building CPython without a GIL,csrc/tools/freethreaded.sh build/freethreaded)
	@touch $@

.venv/made: | build/done/build
	$(call quietly,making .venv,"$${PYTHON:-$$(csrc/tools/pythons.sh | awk '/builds/ { print $$2; exit }')}" -m venv --clear .venv \
	    && $(BIN)/python -m pip install --upgrade pip 'setuptools>=77')
	@touch $@

build/done/extension: $(SOURCES) $(HEADERS) csrc/flags.txt csrc/tools/flags.sh csrc/tools/ibk.map setup.py | .venv/made
	$(call quietly,compiling the extension module,$(BIN)/python setup.py build_ext --inplace)
	@touch $@

.venv/demo .venv/docs .venv/all .venv/fuzz: .venv/made pyproject.toml | build/done/extension
	$(call quietly,installing Python packages,$(BIN)/python -m pip install --no-build-isolation --editable '.[$(extras)]')
	@touch $@
.venv/demo: extras := cli,sandbox
.venv/docs: extras := cli,docs
.venv/all: extras := test,bench,lint,docs,proof,wheel
.venv/fuzz: extras := fuzz,test

# Whatever is called by a plain word makes no file of that name.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
