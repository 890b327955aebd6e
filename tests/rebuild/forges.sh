#!/usr/bin/env bash
# Checks the files of `sure schedule` for GitHub and GitLab against their schemas, and the feed of a site against RFC 4287.
#
#   tests/rebuild/forges.sh [SURE]
set -euo pipefail
cd "$(dirname "$0")/../.."
sure=$(realpath "${1:-target/debug/sure}")
tools=${XDG_CACHE_HOME:-$HOME/.cache}/sure/forges
if ! [ -x "$tools/bin/check-jsonschema" ] || ! "$tools/bin/python" -c "import feedparser" 2>/dev/null; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "check-jsonschema==0.35.*" "feedparser==6.0.*"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for every in "sunday 02:30" "day 03:00" "month 1 05:00" "hours 6"; do
    printf 'name = "weekly"\nevery = "%s"\nruns = ["keyword_spotting"]\n' "$every" >"$work/weekly.toml"
    (cd "$work" && "$sure" schedule weekly.toml --as github --write . && "$sure" schedule weekly.toml --as gitlab --write .) >/dev/null
    "$tools/bin/check-jsonschema" --builtin-schema vendor.github-workflows "$work/sure-weekly.yml"
    "$tools/bin/check-jsonschema" --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci "$work/sure-weekly.gitlab-ci.yml"
done
export PATH="$PATH:${XDG_CACHE_HOME:-$HOME/.cache}/sure/tools/bin"
if command -v actionlint >/dev/null; then
    actionlint "$work/sure-weekly.yml"
fi
"$tools/bin/python" tests/rebuild/feed.py --sure "$sure"
