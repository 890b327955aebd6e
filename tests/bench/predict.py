#!/usr/bin/env python3
"""Time of `sure predict` for one clip, beside that of a program that only loads the model and computes one forward pass.

    python3 tests/bench/predict.py                     # base shape, 5 s, two threads, builds with --release
    python3 tests/bench/predict.py --profile dev --size tiny

The encoder has random weights of a published shape, with a head for classes, in the layout of transformers. Both programs are started
anew for each clip and take turns, after one round that is not counted. Printed are the medians, and the median of the ratios.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    options = parse()
    profile = options.profile
    command = ["cargo", "build", "--locked", "--profile", profile, "-p", "sure", "-p", "neural", "--bins", "--examples"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    built = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / ("debug" if profile == "dev" else profile)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        scratch = Path(scratch)
        model = write_model(built, scratch, options)
        write_clip(scratch / "clip.wav", options.seconds)
        (scratch / "sure.toml").write_text(f"[pools]\ncpu = {options.threads}\n")
        passes = [built / "examples" / "one_pass", model, "--seconds", str(options.seconds), "--threads", str(options.threads)]
        answers = [built / "sure", "predict", model, "clip.wav", "--out", "answers.csv", "--quiet"]
        least, ours, inside = [], [], []
        for round in range(options.rounds + 1):
            secs, out = timed(passes, scratch)
            own, _ = timed(answers, scratch)
            if round:
                least.append(secs)
                ours.append(own)
                inside.append(json.loads(out))
                print(f"  load and forward {secs:.3f} s, sure predict {own:.3f} s", file=sys.stderr, flush=True)
    median = statistics.median
    ratio = median(own / secs for own, secs in zip(ours, least))
    print(f"{options.size}, {options.seconds:g} s, {options.threads} threads, {options.rounds} rounds")
    print(f"load {median(line['load_secs'] for line in inside):.3f} s, forward pass {median(line['forward_secs'] for line in inside):.3f} s")
    print(f"program that only does this {median(least):.3f} s, sure predict {median(ours):.3f} s, ratio {ratio:.3f}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", default="release")
    parser.add_argument("--scratch", help="where model and clip are written")
    return parser.parse_args()


def write_model(built: Path, scratch: Path, options: argparse.Namespace) -> Path:
    step_time = [built / "examples" / "step_time", "--size", options.size, "--batch", "1", "--seconds", "1", "--write", scratch / "model"]
    subprocess.run(step_time, check=True, stdout=subprocess.DEVNULL)
    return next(folder.parent for folder in (scratch / "model").rglob("config.json"))


def write_clip(path: Path, seconds: float) -> None:
    samples = [(at * 7919) % 2001 - 1000 for at in range(int(16_000 * seconds))]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def timed(command: list, folder: Path) -> tuple:
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - begun, done.stdout


if __name__ == "__main__":
    sys.exit(main())
