#!/usr/bin/env bash
# Checks that what `sure run` leaves can be exported to ONNX and answers the same there. The environment is that of models.sh, with onnx and
# onnxruntime in a folder of their own (110 MB), made once per user.
#
#   tests/compat/onnx.sh [--if-made]     with --if-made nothing is made: without them the check is left out, and says so
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sure
environment=$cache/bench-neural
libraries=$cache/onnx
if [ ! -e "$environment/complete" ] || [ ! -e "$libraries/complete" ]; then
  if [ "${1:-}" = --if-made ]; then
    echo "LEFT OUT: export to ONNX ('make compat' makes the environment for it)"
    exit 0
  fi
  PYTHONPATH=tests/bench python3 -c 'import neural, pathlib, sys; neural.make_environment(pathlib.Path(sys.argv[1]))' "$environment"
  "$environment/bin/python" -m pip install --quiet --no-deps --target "$libraries" onnx==1.23.2 onnxruntime==1.32.0 ml_dtypes==0.6.0 flatbuffers==25.12.19
  touch "$libraries/complete"
fi
# As scripts/check.sh builds them: with fewer packages, dependencies would be compiled again with other features.
cargo build --quiet --locked --workspace --bins --tests --examples
programs=${CARGO_TARGET_DIR:-target}/debug
PYTHONPATH="$libraries" "$environment/bin/python" tests/compat/onnx.py "$programs/sure" "$programs/sure-neural"
