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
step scripts/circles.py pipeline/src stages/neural/src
export PATH="$PATH:${XDG_CACHE_HOME:-$HOME/.cache}/sure/tools/bin"
for tool in machete deny; do
    if ! command -v "cargo-$tool" >/dev/null; then
        echo "note: cargo-$tool is not installed, dependencies are not checked; scripts/check_tools.sh installs it" >&2
    elif [ $tool = machete ]; then
        step cargo machete --with-metadata
    else
        step cargo deny --offline check licenses bans sources
    fi
done
for check in "hadolint Dockerfile" "actionlint .github/workflows/ci.yml"; do
    if command -v "${check% *}" >/dev/null; then
        step ${check% *} ${check#* }
    else
        echo "note: ${check% *} is not installed, ${check#* } is not checked; scripts/check_tools.sh installs it" >&2
    fi
done
# Programs and tests at once: apart, their dependencies would be compiled twice, with different features.
step cargo build --workspace --bins --tests --examples --locked
step cargo test --workspace --locked --quiet
# With the object stores that no test reaches, and without the cache: both must at least be built.
step cargo clippy --workspace --all-targets --features sure/gcp,sure/azure --locked --quiet -- -D warnings
step cargo check -p sure --no-default-features --bins --locked --quiet
# The fuzz targets are a workspace of their own.
step cargo check --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --locked --quiet
RUSTDOCFLAGS="-D warnings" step cargo doc --workspace --no-deps --document-private-items --locked --quiet

step tests/compat/run.sh --if-made

# The program that plans must start without libtorch.
if ldd target/debug/sure | grep -E 'libtorch|libc10'; then
    echo "error: sure links libtorch" >&2
    exit 1
fi
