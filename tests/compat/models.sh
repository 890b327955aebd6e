#!/usr/bin/env bash
# Checks that transformers, peft and pipelines give the same answers with every folder that `sure run` leaves, and `sure predict` too.
# The environment with torch, transformers and peft is that of tests/bench/neural.py, made once per user (1.2 GB).
#
#   tests/compat/models.sh [--if-made]     with --if-made nothing is made: without an environment the check is left out, and says so
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${XDG_CACHE_HOME:-$HOME/.cache}/sure/bench-neural
if [ ! -e "$environment/complete" ]; then
  if [ "${1:-}" = --if-made ]; then
    echo "LEFT OUT: our models in transformers and peft ('make compat' makes the environment for it)"
    exit 0
  fi
  PYTHONPATH=tests/bench python3 -c 'import neural, pathlib, sys; neural.make_environment(pathlib.Path(sys.argv[1]))' "$environment"
fi
# As scripts/check.sh builds them: with fewer packages, dependencies would be compiled again with other features.
cargo build --quiet --locked --workspace --bins --tests --examples
programs=${CARGO_TARGET_DIR:-target}/debug
"$environment/bin/python" tests/compat/models.py "$programs/sure" "$programs/sure-neural"
"$environment/bin/python" tests/compat/predict.py "$programs/sure" "$programs/sure-neural"
