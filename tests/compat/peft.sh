#!/usr/bin/env bash
# Checks that the Python library peft loads our adapters with the same logits, and that ours loads what peft writes again.
# The environment with torch, transformers and peft is that of tests/bench/neural.py, made once per user (1.2 GB).
#
#   tests/compat/peft.sh [--if-made]     with --if-made nothing is made: without an environment the check is left out, and says so
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${XDG_CACHE_HOME:-$HOME/.cache}/sure/bench-neural
if [ ! -e "$environment/complete" ]; then
  if [ "${1:-}" = --if-made ]; then
    echo "LEFT OUT: our adapters in peft ('make compat' makes the environment for it)"
    exit 0
  fi
  PYTHONPATH=tests/bench python3 -c 'import neural, pathlib, sys; neural.make_environment(pathlib.Path(sys.argv[1]))' "$environment"
fi
SURE_PEFT_PYTHON=$environment/bin/python cargo test --quiet --locked -p neural --test peft
