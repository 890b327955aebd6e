"""Time and memory of `sure prepare` on very many small files.

    python3 tests/bench/prepare_scale.py SURE SCRATCH [--recordings 100000] [--snips 230000] [--older]

1. So many recordings in the layout of FSDD are prepared; again with nothing changed; then one is replaced: how long the new
   shards take, and how many were written.
2. So many in the layout of Audio SNIPS (long names, one label file) are listed, hashed and made into shards.

Every recording lasts 20 ms, so that what is measured is the handling of files and not of audio. Times are wall times of whole
commands, memory is the largest resident size of the process.
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

VOICES = "Ivy Joanna Joey Justin Kendra Kimberly Matthew Salli Aditi Amy Geraint Nicole Brian Emma Raveena Russell".split()


def wav(rate, number):
    samples = random.Random(number).randbytes(rate // 50 * 2)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", len(samples))
    return head + samples


def fsdd(root, count):
    folder = root / "recordings"
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number % 10}_theo_{number // 10}.wav").write_bytes(wav(8_000, number))


def snips(root, count):
    root.mkdir(parents=True)
    (root / "slots.txt").write_text("O\ngenre\n")
    with open(root / "all.iob.snips.txt", "w") as table:
        for number in range(count):
            split = ["train"] * 18 + ["valid", "test"]
            split, voice = split[number % 20], VOICES[number // 20 % 16]
            (root / split).mkdir(exist_ok=True)
            name = f"{voice}-snips-{split}-{number}"
            (root / split / f"{name}.wav").write_bytes(wav(16_000, number))
            table.write(f"{name} BOS PLAY ROCK MUSIC PLEASE EOS\tO O genre O O PlayMusic\n")


def measure(what, sure, *options):
    begun = time.monotonic()
    process = subprocess.Popen([sure, "prepare", *map(str, options), "-q"])
    _, status, usage = os.wait4(process.pid, 0)
    secs = time.monotonic() - begun
    if status != 0:
        raise SystemExit(f"{what}: exit status {status}")
    print(f"{what}: {secs:.2f} s, {usage.ru_maxrss / 1024:.0f} MiB, {usage.ru_utime + usage.ru_stime:.2f} s of CPU", flush=True)


def written(out, since):
    names = [path.name for path in out.glob("*-of-*.parquet") if path.stat().st_ino not in since]
    return sorted({name.split("-")[1] for name in names})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sure")
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--snips", type=int, default=230_000)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--older", action="store_true", help="SURE is a version that does not compare a copy with the published corpus")
    args = parser.parse_args()
    more = () if args.older else ("--allow-incomplete",)
    if args.recordings:
        root, out = args.scratch / "fsdd", args.scratch / "fsdd-out"
        fsdd(root, args.recordings)
        prepare = ("fsdd", "--root", root, "--out", out, "--shards", args.shards, *more)
        measure(f"{args.recordings} recordings to {args.shards} shards", args.sure, *prepare)
        measure("  again, nothing changed", args.sure, *prepare)
        for number in range(3):
            before = {path.stat().st_ino for path in out.iterdir()}
            (root / "recordings" / f"{number}_theo_7.wav").write_bytes(wav(8_000, -1 - number))
            measure("  one recording replaced", args.sure, *prepare)
            print(f"  shards written: {', '.join(written(out, before))}")
        shutil.rmtree(root), shutil.rmtree(out)
    if args.snips:
        root, out = args.scratch / "snips", args.scratch / "snips-out"
        snips(root, args.snips)
        prepare = ("audio_snips", "--root", root, "--out", out, "--protocol", "snips-all", "--shards", args.shards, *more)
        measure(f"{args.snips} recordings in the layout of Audio SNIPS to {args.shards} shards", args.sure, *prepare)
        measure("  again, nothing changed", args.sure, *prepare)
        shutil.rmtree(root), shutil.rmtree(out)


main()
