#!/usr/bin/env python3
"""A full disk under the history, the site and the store: lines of the record are whole or absent, the old site stays, cells failed.

    tests/rebuild/full_disk.py [--sure target/debug/sure]

Needs root, for small file systems in a mount namespace of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"history": "2m", "www": "2m", "disk": "200m"}


def fill(folder):
    """Leaves no room in a file system. Returns the files to remove."""
    files = []
    for size in (65536, 4096, 1):
        path = folder / f"filler{size}"
        files.append(path)
        with open(path, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return files


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sure", type=Path, default=ROOT / "target/debug/sure")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("note: left out, since it needs root")
        return 0
    if not args.inside:
        return subprocess.call(["unshare", "-m", sys.executable, __file__, "--inside", *sys.argv[1:]])
    sure, work = args.sure.resolve(), Path(tempfile.mkdtemp(prefix="sure-full-"))
    for name, size in FOLDERS.items():
        (work / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", work / name], check=True)
    subprocess.run([sure, "synth", "speech_commands", work / "corpus", "--speakers", "4", "--takes", "2"], check=True)
    (work / "sure.toml").write_text('store = "disk/store"\n[corpora]\nspeech_commands = "corpus"\n')
    (work / "tiny.toml").write_text((ROOT / "tests/it/tiny.toml").read_text().replace("max_steps = 24", "max_steps = 4"))
    (work / "weekly.toml").write_text(
        'name = "weekly"\nevery = "day 03:00"\nruns = ["./tiny.toml --set method=finetune"]\n[site]\nfolder = "www"\n'
    )

    def rebuild(day):
        environment = {**os.environ, "SURE_NOW": f"2026-03-{day:02}T03:00:00Z"}
        answer = subprocess.run([sure, "rebuild", "weekly.toml"], cwd=work, env=environment, capture_output=True, text=True)
        assert "panicked" not in answer.stderr, answer.stderr
        return answer

    def lines():
        text = (work / "history/rebuilds.jsonl").read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line)["line"] for line in whole.splitlines()]

    assert rebuild(1).returncode == 0
    before = lines()
    files = fill(work / "history")
    # The last page of the record may have room for a few lines.
    answer = next((answer for answer in (rebuild(2) for _ in range(8)) if answer.returncode), None)
    assert answer and answer.returncode == 2 and "disk is full" in answer.stderr, answer
    assert lines()[: len(before)] == before, lines()
    for path in files:
        path.unlink()
    again = rebuild(3)
    assert again.returncode == 0 and lines()[-1] in ("ended", "told"), again

    # Room for the beginning of a line, then for less and less: the record stays readable.
    for room in range(0, 60_000, 6_000):
        files = fill(work / "history")
        with open(files[0], "r+b") as file:
            file.truncate(max(0, files[0].stat().st_size - room))
        rebuild(4 + room // 6_000)
        for path in files:
            path.unlink()
        shown = subprocess.run([sure, "history", "weekly.toml"], cwd=work, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
    assert rebuild(20).returncode == 0

    index = (work / "www/index.html").read_bytes()
    files = fill(work / "www")
    answer = rebuild(21)
    assert answer.returncode == 0 and "the site was not written" in answer.stderr, answer
    assert (work / "www/index.html").read_bytes() == index
    for path in files:
        path.unlink()
    assert rebuild(22).returncode == 0
    assert (work / "www/index.html").read_bytes() != index

    # A store that has no room: the cell failed, and is not gone.
    workflow = (work / "tiny.toml").read_text()
    (work / "tiny.toml").write_text(workflow.replace("max_steps = 4", "max_steps = 3"))
    files = fill(work / "disk")
    answer = rebuild(23)
    [ended] = [line for line in map(json.loads, (work / "history/rebuilds.jsonl").read_text().splitlines()[-2:]) if line["line"] == "ended"]
    assert answer.returncode == 1 and "the disk is full" in answer.stderr, answer
    assert [cell["last"]["verdict"] for cell in ended["cells"].values()] == ["failed"], ended
    for path in files:
        path.unlink()
    answer = rebuild(24)
    assert answer.returncode == 0 and "recovered: the rebuild ended well, after one that failed" in answer.stderr, answer
    print("full disks: the record stays readable, the old site stays, cells without room failed")
    for name in FOLDERS:
        subprocess.run(["umount", work / name], check=False)
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
