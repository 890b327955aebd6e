#!/usr/bin/env bash
# Checks that Python reads what `sure prepare` writes. The Python environment is made once, in target/compat.
#
#   tests/compat/run.sh [--if-made]     with --if-made nothing is made: without an environment the check is left out, and says so
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=target/compat
stamp=$environment/requirements.txt
if ! cmp -s tests/compat/requirements.txt "$stamp"; then
  if [ "${1:-}" = --if-made ]; then
    echo "LEFT OUT: datasets, polars, duckdb and pyarrow on our shards ('make compat' makes the environment for it)"
    exit 0
  fi
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check -r tests/compat/requirements.txt
  cp tests/compat/requirements.txt "$stamp"
fi
sure=${SURE:-}
if [ -z "$sure" ]; then
  # As scripts/check.sh builds them: with fewer packages, dependencies would be compiled again with other features.
  cargo build --quiet --locked --workspace --bins --tests --examples
  sure=${CARGO_TARGET_DIR:-target}/debug/sure
fi
HF_HUB_OFFLINE=1 "$environment/bin/python" tests/compat/check.py "$sure"
