#!/usr/bin/env python3
"""Times of `sure rebuild` on a project that is up to date: not due, and an unchanged rebuild with history, verdicts and site.

    tests/bench/rebuild.py [--sure target/release/sure] [--project quickstart] [--workflow keyword_spotting]

The aims are 10 ms and 0.5 s on two idle cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sure", type=Path, default=ROOT / "target/release/sure")
    parser.add_argument("--project", type=Path, default=ROOT / "quickstart")
    parser.add_argument("--workflow", default="keyword_spotting")
    args = parser.parse_args()
    sure, project = args.sure.resolve(), args.project.resolve()
    scratch = Path(tempfile.mkdtemp(prefix="sure-bench-"))
    file = project / "bench-rebuild.toml"
    file.write_text(
        f'name = "bench"\nevery = "hours 1"\nruns = ["{args.workflow}"]\nhistory = "{scratch}/history"\n[site]\nfolder = "{scratch}/www"\n'
    )

    def call(hour, *more):
        environment = {**os.environ, "SURE_NOW": f"2026-03-{1 + hour // 24:02}T{hour % 24:02}:30:00Z"}
        begun, before = time.perf_counter(), os.times()
        answer = subprocess.run([sure, "rebuild", file, "--quiet", *more], env=environment, capture_output=True, text=True)
        after = os.times()
        assert answer.returncode == 0, answer
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - begun, used

    try:
        first, _ = call(0)
        print(f"first rebuild: {first:.2f} s")
        idle = sorted(call(0, "--if-due") for _ in range(20))
        print(f"not due: {idle[0][0] * 1e3:.1f} ms at best, {idle[10][0] * 1e3:.1f} ms in the middle; {sum(used for _, used in idle) / 20 * 1e3:.1f} ms of CPU")
        same = sorted(call(hour) for hour in range(1, 11))
        print(f"unchanged: {same[0][0]:.3f} s at best, {same[5][0]:.3f} s in the middle; {sum(used for _, used in same) / 10:.3f} s of CPU")
    finally:
        file.unlink()
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
