#!/usr/bin/env bash
# usage: fuzz/run.sh [SECONDS] [TARGET...]    fuzzes each target (default: all) for so long (default: 600)
# Decoders begin from the recordings in stages/audio/codec/fixtures, readers of label files from the miniatures of their corpora.
# There is no unsafe code to sanitize. Needs nightly Rust and cargo-fuzz. What it finds is in fuzz/artifacts; no memory over 512 MB.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
[ $# -gt 0 ] || set -- $(cd fuzz_targets && ls -- *.rs | sed 's/\.rs$//')
declare -A seeds=([wav]='*.wav' [containers]='short.*' [flac]='*.flac' [mp3]='*.mp3 *.aac' [mp4]='*.m4a' [ogg]='*.ogg *.oga *.opus')
cargo +nightly fuzz build --sanitizer none
programs=target/$(rustc +nightly -vV | sed -n 's/^host: //p')/release
status=0
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    for pattern in ${seeds[$target]:-}; do cp ../stages/audio/codec/fixtures/$pattern "corpus/$target"; done
    unset SURE_FUZZ_SEEDS
    case $target in labels_*) export SURE_FUZZ_SEEDS="$PWD/corpus/$target" ;; esac
    echo "== $target" >&2
    "$programs/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
        -rss_limit_mb=512 -malloc_limit_mb=512 -timeout=20 -max_len=32768 -print_final_stats=1 || status=1
done
exit $status
