#!/usr/bin/env bash
# usage: fuzz/run.sh [SECONDS] [TARGET...]    fuzzes each target (default: all) for so long (default: 600), from the recordings in
# stages/audio/tests/fixtures. There is no unsafe code to sanitize. Needs nightly Rust and cargo-fuzz. What it finds is in fuzz/artifacts; no memory over 512 MB.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
[ $# -gt 0 ] || set -- wav flac mp3 mp4 ogg
declare -A seeds=([wav]='*.wav' [flac]='*.flac' [mp3]='*.mp3 *.aac' [mp4]='*.m4a' [ogg]='*.ogg *.oga *.opus')
for target in "$@"; do
    mkdir -p "corpus/$target"
    for pattern in ${seeds[$target]}; do cp ../stages/audio/tests/fixtures/$pattern "corpus/$target"; done
    cargo +nightly fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -rss_limit_mb=512 -malloc_limit_mb=512 -timeout=20 -max_len=32768
done
