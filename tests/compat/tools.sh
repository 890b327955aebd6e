#!/usr/bin/env bash
# Makes sure that the programs are there that the matrix of audio formats needs (stages/audio/codec/tests/matrix.rs). As root on
# Debian and Ubuntu it installs them; elsewhere it says what to install.
set -euo pipefail
declare -A packages=([ffmpeg]=ffmpeg [lame]=lame [flac]=flac [sox]=sox [oggenc]=vorbis-tools [opusenc]=opus-tools)
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "error: missing ${missing[*]}; on Debian and Ubuntu: sudo apt install ${missing[*]}" >&2
    exit 1
  fi
fi
