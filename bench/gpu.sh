#!/bin/bash
# All figures of one card, in one JSON: bash bench/gpu.sh [--tiny]. See bench/gpu.py.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1
python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "${PYTHON:-$python}" -m bench.gpu "$@"
