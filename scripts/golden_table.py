#!/usr/bin/env python3
"""Prints, as a Markdown table, what is compared with the reference numbers and how close it is.

    SURE_GOLDEN=FOLDER scripts/golden_table.py [--write README.md]

Runs the tests that compare. A test takes part by printing, for every comparison, one line

    GOLDEN <case> <tensor> <share>

with the name of the case in manifest.json, and the largest difference as a share of the allowed one (0 where equality is
asked for). Cases of the manifest for which no test prints a line are listed last. With --write the table replaces what stands between
the lines `<!-- golden -->` and `<!-- /golden -->` of a file.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["cargo", "test", "--quiet", "--workspace", "--lib", "--test", "golden", "--test", "features", "--", "--nocapture", "golden", "match", "published_code", "reference", "train::"]
BEGIN, END = "<!-- golden -->", "<!-- /golden -->"


def tolerance(case):
    names = {"scaled": "of the largest value", "atol": "", "rtol": "of each value", "exact": ""}
    parts = ["equal" if name == "exact" else f"{value:g} {names[name]}".strip() for name, value in case["tolerance"].items()]
    return " + ".join(parts)


def run(folder):
    """Case -> [tensors compared, largest share of the allowed difference]."""
    environment = dict(os.environ, SURE_GOLDEN=str(folder))
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    found = {}
    for line in done.stdout.splitlines():
        at = line.find("GOLDEN ")
        if at >= 0:
            _, case, _, share = line[at:].split()
            entry = found.setdefault(case, [0, 0.0])
            entry[0] += 1
            entry[1] = max(entry[1], float(share))
    return found, done.returncode


def table(cases, found):
    lines = ["| case | compared | largest difference | allowed |", "| --- | --- | --- | --- |"]
    for case in cases:
        if case["name"] in found:
            count, share = found[case["name"]]
            difference = "none" if "exact" in case["tolerance"] else f"{100 * share:.2g} % of what is allowed"
            where = case["dir"] if case["dir"].endswith(case["name"]) else f"{case['dir']}/{case['name']}"
            lines.append(f"| `{where}` | {count} | {difference} | {tolerance(case)} |")
    missing = sorted(case["name"] for case in cases if case["name"] not in found)
    if missing:
        lines += ["", f"Without a line here, since no test prints one: {', '.join(missing)}."]
    return "\n".join(lines)


def main():
    folder = Path(os.environ.get("SURE_GOLDEN", ROOT.parent / "shared" / "golden")).resolve()
    if not (folder / "manifest.json").is_file():
        sys.exit(f"no reference numbers at `{folder}`; set SURE_GOLDEN")
    cases = json.loads((folder / "manifest.json").read_text())["cases"]
    found, code = run(folder)
    text = table(cases, found)
    if "--write" in sys.argv:
        path = Path(sys.argv[sys.argv.index("--write") + 1])
        before, rest = path.read_text().split(BEGIN, 1)
        path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")
    else:
        print(text)
    if code:
        sys.exit("some of the tests failed")


if __name__ == "__main__":
    main()
