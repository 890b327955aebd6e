#!/usr/bin/env bash
# Measures the engine beside ninja and b3sum in one run, and prints a Markdown table of medians.
#
#   tests/bench/engine.sh            every figure that is kept in the README; under eight minutes on two quiet cores, 15 GB of disk
#   tests/bench/engine.sh --all      more rounds, larger trees, make and snakemake beside; an hour or so
#   tests/bench/engine.sh --quick    small sizes, a minute: whether it works
#   tests/bench/engine.sh --only hash,scan --work FOLDER
#
# Do not run it within six minutes after many files were deleted on the same disk, by an earlier run for example: see engine.py.
# What it needs lies in a cache folder of its own: a Python environment with ninja and snakemake, and b3sum.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/sure/bench"
mkdir -p "$cache"
if ! [ -x "$cache/venv/bin/snakemake" ]; then
    echo "installing ninja and snakemake into $cache/venv" >&2
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet ninja snakemake
fi
if ! [ -x "$cache/bin/b3sum" ]; then
    echo "installing b3sum into $cache/bin" >&2
    cargo install --quiet --root "$cache" b3sum
fi
command -v make >/dev/null || echo "no make here: its figures will be missing" >&2

target="${CARGO_TARGET_DIR:-target}"
cargo build --quiet --release --locked -p pipeline --example toy
exec python3 tests/bench/engine.py --toy "$target/release/examples/toy" --bin "$cache/venv/bin" --b3sum "$cache/bin/b3sum" \
    --work "$cache/work" "$@"
