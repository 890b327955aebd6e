#!/usr/bin/env bash
# Makes sure that a C++ compiler, Python 3 and cargo are there. As root on Debian and Ubuntu it installs what is missing of the
# first two; elsewhere it says what to install.
set -euo pipefail
. "$(dirname "$0")/packages.sh"

missing=()
command -v c++ >/dev/null || missing+=(g++)
command -v python3 >/dev/null || missing+=(python3)
if ! python3 -m pip --version >/dev/null 2>&1 && ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    missing+=(python3-venv)
fi
need "${missing[@]}"

if ! command -v cargo >/dev/null; then
    echo "error: cargo is not on PATH; install Rust with rustup, see its home page, then open a new shell" >&2
    exit 1
fi
