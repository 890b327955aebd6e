#!/usr/bin/env bash
# Makes sure that the programs are there that the matrix of audio formats needs (stages/audio/codec/tests/matrix.rs). As root on
# Debian and Ubuntu it installs them; elsewhere it says what to install.
set -euo pipefail
. "$(dirname "$0")/../../scripts/packages.sh"

declare -A packages=([ffmpeg]=ffmpeg [lame]=lame [flac]=flac [sox]=sox [oggenc]=vorbis-tools [opusenc]=opus-tools)
missing=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
need "${missing[@]}"
