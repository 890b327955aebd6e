#!/usr/bin/env python3
"""Figures of runs on Slurm, on a private cluster of three nodes (see tests/cluster): needs root.

    cluster.py TARGET        TARGET is the folder of the build: target/release

Prints a Markdown table: submission of 10,000 tasks, calls of the queue, the time until a result is taken over, kills of the controller
with the time of a restart, and 1000 trivial tasks beside an array of `true` with the same packing.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
from bed import Bed, end  # noqa: E402
from run import Project, steps, texts  # noqa: E402

KILLS = 100


def submission(bed, toy, work):
    """10,000 tasks that wait in the queue: calls of `sbatch`, and the time they take together."""
    project = Project(bed, toy, work)
    project.write(texts(10_000))
    project.extra = ["--hold"]
    project.shim("sbatch", 'a=$(date +%s.%N); "$REAL" "$@"; code=$?; echo "$a $(date +%s.%N)" >> "$DIR/calls"; exit $code')
    begun = time.time()
    process = project.start()
    project.wait_for("jobs", lambda: sum(len(wave["tasks"]) for wave in project.waves()) == 10_000, 120)
    project.wait_for("a job id", lambda: len(list(project.dir.glob("shared/*/waves/*/job"))) == len(project.waves()), 60)
    calls = [[float(word) for word in line.split()] for line in (project.dir / "calls").read_text().splitlines()]
    before = time.time() - begun
    end(process.pid)
    process.wait()
    project.close()
    return len(calls), calls[-1][1] - calls[0][0], before


def taking_over(bed, toy, work):
    """Time from each result file to its line in the output; calls of the queue in that time."""
    project = Project(bed, toy, work).alone()
    project.write(steps(60, 20, 100))
    project.shim("squeue", 'case "$*" in *--me*) date +%s >> "$DIR/asked";; esac; exec "$REAL" "$@"')
    words = [toy, "cluster", "toy.toml", "store", "books", "ledger", "shared", "5"]
    process = subprocess.Popen(words, cwd=project.dir, env=project.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    project.started.append(process)
    begun, late, seen = time.time(), [], {}
    while process.poll() is None or seen.keys() - {name for name, _ in late}:
        for path in project.dir.glob("shared/*/waves/*/done/*.json"):
            seen.setdefault(path, path.stat().st_mtime)
        settled = {}
        for path in project.dir.glob("shared/*/waves/*/settled"):
            settled[path.parent] = set(path.read_text().split())
        now = time.time()
        for path, made in list(seen.items()):
            wave, task = path.parents[1], path.name.split(".")[0]
            is_taken = task in settled.get(wave, set()) or (wave / "closed").exists()
            if is_taken and path not in [name for name, _ in late]:
                late.append((path, now - made))
        time.sleep(0.02)
    code = process.wait()
    lasted = time.time() - begun
    asked = len((project.dir / "asked").read_text().split()) if (project.dir / "asked").exists() else 0
    project.check(code, "")
    project.close()
    times = sorted(secs for _, secs in late)
    return len(times), times[len(times) // 2], times[-1], asked, lasted


def kills(bed, toy, work):
    """A run of 300 tasks whose controller is killed again and again: submissions and bodies beyond one a task, and restarts."""
    project = Project(bed, toy, work)
    project.write(texts(300))
    random.seed(1)
    twice = again = done = 0
    while done < KILLS:
        process = project.start()
        time.sleep(random.uniform(0.02, 1.5))
        if process.poll() is None:
            process.kill()
            process.wait()
            done += 1
            continue
        counts = project.submitted().values()
        twice, again = twice + sum(count - 1 for count in counts), again + project.bodies() - 301
        project = Project(bed, toy, work)
        project.write(texts(300))
    code, text = project.run()
    project.check(code, text)
    counts = project.submitted().values()
    twice, again = twice + sum(count - 1 for count in counts), again + project.bodies() - 301
    # A restart in the middle: from the start of the process until the open wave is taken over; and a run with nothing to do.
    project = Project(bed, toy, work)
    project.write(steps(300, 40, 100))
    project.extra = ["--hold"]
    process = project.start()
    project.wait_for("a wave", lambda: list(project.dir.glob("shared/*/waves/*/job")), 60)
    process.kill()
    process.wait()
    begun = time.time()
    process = project.start()
    project.wait_for("adoption", lambda: "taken over" in process.text(), 30)
    restart = time.time() - begun
    end(process.pid)
    process.wait()
    project.close()
    return done, twice, again, restart


def trivial(bed, toy, work):
    """1000 trivial tasks, and an array of `true` with as many elements and as many calls in each; three times each, the best."""
    ours, theirs, elements = [], [], 0
    for _ in range(3):
        project = Project(bed, toy, work)
        project.write(texts(1000).split("[stages.all]")[0])
        begun = time.time()
        code, text = project.run()
        ours.append(time.time() - begun)
        assert code == 0, text
        elements = sum(len(wave["elements"]) for wave in project.waves())
        folder = Path(tempfile.mkdtemp(dir=work))
        script = folder / "script"
        script.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do /bin/true; done\n: > " + f"{folder}/done.$SLURM_ARRAY_TASK_ID\n")
        begun = time.time()
        bed.run("sbatch", f"--array=0-{elements - 1}", "--mem=100", "-n1", "-o", "/dev/null", str(script), check=True)
        while len(list(folder.glob("done.*"))) < elements:
            time.sleep(0.05)
        theirs.append(time.time() - begun)
        project.close()
    return elements, min(ours), min(theirs)


def main():
    toy = str(Path(sys.argv[1]).resolve() / "examples/toy")
    only = sys.argv[2].split(",") if len(sys.argv) > 2 else ["submission", "taking_over", "kills", "trivial"]
    work = Path(tempfile.mkdtemp(prefix="sure-bench-"))
    print("| figure | measured |\n| --- | --- |", flush=True)
    try:
        with Bed(work / "bed") as bed:
            if "submission" in only:
                calls, secs, before = submission(bed, toy, work)
                print(f"| 10,000 tasks submitted | {calls} calls of `sbatch`, {secs:.2f} s; {before:.2f} s from the start of the run |", flush=True)
            if "taking_over" in only:
                count, median, longest, asked, lasted = taking_over(bed, toy, work)
                print(f"| result taken over after its file | median {median:.2f} s, longest {longest:.2f} s of {count} |")
                print(f"| calls of `squeue` | {asked} in {lasted:.0f} s |", flush=True)
            if "kills" in only:
                done, twice, again, restart = kills(bed, toy, work)
                print(f"| controller killed {done} times in a run of 300 tasks | {twice} submitted twice, {again} run twice |")
                print(f"| restart until 300 open tasks are taken over | {restart:.2f} s |", flush=True)
            if "trivial" in only:
                elements, ours, theirs = trivial(bed, toy, work)
                print(f"| 1000 trivial tasks in {elements} elements | {ours:.2f} s; an array of `true` {theirs:.2f} s: {ours / theirs:.2f} times |", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
