#!/usr/bin/env python3
"""Counts doc comments whose first line does not name the thing it documents.

    scripts/doc_words.py [--list] [FOLDER ...]

The first line of a doc comment is a noun phrase or a verb in the third person: "Digest of the artifact.", "Returns the batches
of one epoch." A first line that starts with What, Whether, Who, Its or The same names nothing that a search could find. Prints the
share per crate and overall; with --list also every such line. Exits with 1 when a crate has a share of 2 % or more.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 0.02
CLAUSE = re.compile(r"\s*//[/!] (What|Whether|Who|Whose|Whom|Its|The same)\b")
DOC = re.compile(r"\s*//[/!]( |$)")


def first_lines(path):
    """Yields (line number, text) for the first line of every doc comment of a file."""
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        doc = DOC.match(line) is not None
        if doc and not inside:
            yield number, line
        inside = doc


def crate_of(path):
    folder = path.parent
    while folder != ROOT and not (folder / "Cargo.toml").is_file():
        folder = folder.parent
    return str(folder.relative_to(ROOT))


def main():
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    folders = [word for word in sys.argv[1:] if not word.startswith("--")] or ["."]
    names = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    counts = {}
    for name in sorted(name for name in names.split("\0") if name.endswith(".rs")):
        path = ROOT / name
        if not path.is_file():
            continue
        count = counts.setdefault(crate_of(path), [0, 0])
        for number, line in first_lines(path):
            count[1] += 1
            if CLAUSE.match(line):
                count[0] += 1
                if "--list" in options:
                    print(f"{name}:{number}:{line}")
    for crate, (bad, all_lines) in sorted(counts.items()):
        print(f"{crate:24} {bad:5} of {all_lines:5}  {bad / max(all_lines, 1):6.1%}")
    bad, all_lines = (sum(count[place] for count in counts.values()) for place in (0, 1))
    print(f"{'all':24} {bad:5} of {all_lines:5}  {bad / max(all_lines, 1):6.1%}")
    over = [crate for crate, (bad, all_lines) in sorted(counts.items()) if bad > 0 and bad >= LIMIT * all_lines]
    if over:
        sys.exit(
            f"error: in {', '.join(over)}, 2 % or more of the doc comments do not name what they document; "
            "`scripts/doc_words.py --list` shows them"
        )


if __name__ == "__main__":
    main()
