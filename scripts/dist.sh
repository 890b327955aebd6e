#!/usr/bin/env bash
# Builds `dist/sure-VERSION-linux-x86_64.tar.gz`: both programs, and the script that fetches libtorch. It runs where there is no compiler.
#
# PROFILE=dev packs programs of a debug build, to try the archive.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
built=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=sure-$version-linux-x86_64

cargo build --locked --profile "$profile" -p sure --bin sure
# The program finds libtorch next to itself, wherever the archive is unpacked.
cargo rustc --locked --profile "$profile" -p neural --bin sure-neural -- -C "link-arg=-Wl,-rpath,\$ORIGIN/../lib"

rm -rf "dist/$name"
mkdir -p "dist/$name/bin"
cp "$built/sure" "$built/sure-neural" "dist/$name/bin/"
[ "$profile" = dev ] || strip "dist/$name/bin/sure" "dist/$name/bin/sure-neural"
cp scripts/libtorch.py scripts/libtorch.txt README.md CHANGELOG.md LICENSE-* "dist/$name/"
cp -r docs "dist/$name/"
"$built/sure" completions man --pages "dist/$name/share/man/man1"
mkdir -p "dist/$name/share/bash-completion/completions" "dist/$name/share/zsh/site-functions" "dist/$name/share/fish/vendor_completions.d"
"$built/sure" completions bash > "dist/$name/share/bash-completion/completions/sure"
"$built/sure" completions zsh > "dist/$name/share/zsh/site-functions/_sure"
"$built/sure" completions fish > "dist/$name/share/fish/vendor_completions.d/sure.fish"
cat > "dist/$name/INSTALL" <<'TEXT'
bin/sure alone lists, prepares, plans and explains. To train and predict, bin/sure-neural needs libtorch (543 MB, once per user):

  python3 libtorch.py --link lib

It needs Python 3.9 with pip or venv, and no compiler. Put bin/ on PATH; `sure doctor` says what is missing. share/ has manual pages
(`man -M share/man sure-run`) and completions for bash, zsh and fish.
TEXT
tar --sort=name --owner=0 --group=0 --numeric-owner -C dist -czf "dist/$name.tar.gz" "$name"
echo "dist/$name.tar.gz"
