#!/usr/bin/env python3
"""Prints, as a Markdown table, what is compared with the reference numbers and how close it is.

    SURE_GOLDEN=FOLDER scripts/golden_table.py [--write docs/reference-numbers.md]

Runs the tests that compare. A test takes part by printing, for every comparison, one line

    GOLDEN <case> <tensor> <share>

with the name of the case in manifest.json, and the largest difference as a share of the allowed one (0 where equality is
asked for). Cases that are not compared are listed last, each with its reason; one without a reason is an error. With --write the
table replaces what stands between the lines `<!-- golden -->` and `<!-- /golden -->` of a file.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Reference numbers that are part of the repository.
OWN = [ROOT / "tests" / "golden" / name for name in ("encoders", "frames", "adapters")]
COMMAND = ["cargo", "test", "--quiet", *(f"--package={name}" for name in ("audio", "scoring", "tasks", "neural")), "--lib", "--test", "golden", "--test", "features", "--test", "synthesis", "--test", "distances", "--test", "text_cleaning", "--", "--nocapture", "golden", "match", "published", "reference", "repeated", "alone", "train::"]
# What is not compared, by case or by kind, and why.
REASONS = {}
# What is left out of a case that is compared, and why.
PARTS = {
    "resample": "`sinc_kaiser` alone, below seven eighths of the highest frequency that is kept, where it is as flat as our sharper filter; `sinc_hann` and "
    "`poly` are shorter and bend it by several 1e-4 there. Tones pin gain, alias, delay and length above (`stages/audio/src/resample/tests.rs`)",
    "mel": "the convergence of Griffin-Lim is an upper bound, that of plain iterations; ours are below it with momentum",
    "griffin_lim": "convergences are upper bounds, so their share says how close ours come; samples are compared after one and two steps",
    "f0": "`pyin` alone; `yin`, `dio` and `harvest` are other trackers",
}
BEGIN, END = "<!-- golden -->", "<!-- /golden -->"


def tolerance(case):
    names = {"scaled": "of the largest value", "atol": "", "rtol": "of each value", "exact": "", "convergence_rtol": "of each bound", "voicing": "of all frames voiced alike"}
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
            lines.append(f"| `{place(case)}` | {count} | {difference} | {tolerance(case)} |")
    parts = [f"- `{place(case)}`: {PARTS[case['name']]}." for case in cases if case["name"] in found and case["name"] in PARTS]
    lines += ["", "Compared in part:", "", *parts] if parts else []
    left = {}
    for case in cases:
        if case["name"] not in found:
            left.setdefault(reason(case), []).append(f"`{place(case)}`")
    lines += ["", "Not compared:", ""] if left else []
    lines += [f"- {', '.join(names)}: {why}." for why, names in left.items()]
    return "\n".join(lines)


def reason(case):
    return REASONS.get(case["name"]) or REASONS.get(case["kind"])


def place(case):
    return case["dir"] if case["dir"].endswith(case["name"]) else f"{case['dir']}/{case['name']}"


def main():
    folder = Path(os.environ.get("SURE_GOLDEN", ROOT.parent / "shared" / "golden")).resolve()
    if not (folder / "manifest.json").is_file():
        sys.exit(f"no reference numbers at `{folder}`; set SURE_GOLDEN")
    manifests = [own / "manifest.json" for own in (*OWN, folder)]
    cases = [case for manifest in manifests for case in json.loads(manifest.read_text())["cases"]]
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
    silent = [place(case) for case in cases if case["name"] not in found and not reason(case)]
    if silent:
        sys.exit(f"compared by no test, for no reason given here: {', '.join(silent)}")


if __name__ == "__main__":
    main()
