#!/usr/bin/env bash
# Installs the programs that check dependencies (scripts/check.sh) once per user, in `${XDG_CACHE_HOME:-~/.cache}/sure/tools`. Some
# minutes of compiling the first time.
set -euo pipefail
root="${XDG_CACHE_HOME:-$HOME/.cache}/sure/tools"
for tool in cargo-machete@0.9.2 cargo-deny@0.20.2; do
    if ! "$root/bin/${tool%@*}" --version 2>/dev/null | grep -q "${tool#*@}"; then
        echo "installing $tool" >&2
        cargo install "$tool" --locked --quiet --root "$root"
    fi
done
