#!/usr/bin/env bash
# Check a GPU in a quarter of an hour: see scripts/gpu_check.py, which takes the same flags.
#
#   scripts/gpu_check.sh --data data --out results/gpu
#   scripts/gpu_check.sh --device cpu --minutes 5
#
# Runs with PYTHON if that is set, else with .venv/bin/python of the checkout, else with python3.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-$here/.venv/bin/python}"
[[ -n "${PYTHON:-}" || -x "$python" ]] || python=python3
command -v "$python" > /dev/null || { echo "$0: PYTHON=$python: there is no such program" >&2; exit 2; }
exec "$python" "$here/scripts/gpu_check.py" "$@"
