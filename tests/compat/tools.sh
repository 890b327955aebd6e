#!/usr/bin/env bash
# Makes sure that the programs are there that the matrix of audio formats needs (stages/audio/codec/tests/matrix.rs), and the checks of
# rebuilds (cron, faketime, curl). As root on Debian and Ubuntu it installs them; elsewhere it says what to install.
set -euo pipefail
. "$(dirname "$0")/../../scripts/packages.sh"

declare -A packages=([ffmpeg]=ffmpeg [lame]=lame [flac]=flac [sox]=sox [oggenc]=vorbis-tools [opusenc]=opus-tools [cron]=cron
    [faketime]=faketime [curl]=curl)
missing=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
need "${missing[@]}"
