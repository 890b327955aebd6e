#!/usr/bin/env bash
# Measures `sure prepare` beside Python (soundfile and soxr; librosa in datasets.map), ffmpeg and sox on the same recordings in one
# run, and prints a Markdown table.
#
#   tests/bench/audio.sh                        an hour of audio in five formats; under ten minutes, 3 GB of disk for a while
#   tests/bench/audio.sh --minutes 5            a smaller corpus: whether it works
#   tests/bench/audio.sh --fsdd FOLDER --work FOLDER --formats wav48,flac48
#
# What it needs lies in a cache folder of its own: a Python environment. ffmpeg and sox are measured when they are there.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/sure/bench"
python="${SURE_BENCH_PYTHON:-$cache/audio/bin/python}"
if ! [ -x "$python" ]; then
    echo "installing soundfile, soxr, librosa and datasets into $cache/audio" >&2
    mkdir -p "$cache"
    python3 -m venv "$cache/audio"
    "$cache/audio/bin/pip" install --quiet soundfile soxr librosa datasets pyarrow
fi
command -v ffmpeg >/dev/null || echo "no ffmpeg here: its figures will be missing, and so will MP3 and MP4" >&2
command -v sox >/dev/null || echo "no sox here: its figures will be missing" >&2

target="${CARGO_TARGET_DIR:-target}"
cargo build --quiet --release --locked -p sure
exec "$python" tests/bench/audio.py --sure "$target/release/sure" "$@"
