#!/usr/bin/env bash
# Formatting, lints, docs and every test, as `make test` and CI run them.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    printf '\n== %s\n' "$*" >&2
    "$@"
}

step cargo fmt --all --check
step scripts/doc_words.py
step scripts/circles.py
for tool in machete deny; do
    if ! command -v "cargo-$tool" >/dev/null; then
        echo "note: cargo-$tool is not installed; cargo install cargo-$tool --locked" >&2
    elif [ $tool = machete ]; then
        step cargo machete --with-metadata
    else
        step cargo deny --offline check licenses bans sources
    fi
done
step cargo build --workspace --bins --locked
step cargo test --workspace --locked --quiet
step cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --workspace --no-deps --document-private-items --locked --quiet

step tests/compat/run.sh --if-made

# The program that plans must start without libtorch.
if ldd target/debug/sure | grep -E 'libtorch|libc10'; then
    echo "error: sure links libtorch" >&2
    exit 1
fi
