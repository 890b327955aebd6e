#!/usr/bin/env python3
"""Debian's cron under a fake clock starts rebuilds for five weeks: one is killed, one finds a full disk, a recording and a setting change.

    tests/rebuild/cron_weeks.py [--sure target/debug/sure] [--keep FOLDER]

Needs root, `cron`, `faketime` and both programs. Works in a mount namespace of its own, so that no file of the system changes. The
corpus and the workflow are those of the end-to-end tests: the quick start with a smaller encoder and fewer steps.
"""

import argparse
import calendar
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAKE = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
SPEED = 120  # simulated seconds a second
HOURS = 3.6  # of each night
WEEKS = ["2026-03-15", "2026-03-22", "2026-03-29", "2026-04-05", "2026-04-12"]  # Europe changes its clocks on 29 March

WRAPPER = """#!/bin/sh
# Cron gives its children a clean environment, and so the true clock: this tells them the simulated time.
. {state}
now=$(date +%s)
SURE_NOW=$(date -u -d "@$(( simulated + (now - begun) * {speed} ))" +%Y-%m-%dT%H:%M:%SZ)
export SURE_NOW
exec {sure} "$@"
"""


def record(work):
    path = work / "history/rebuilds.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ended(work):
    return [line for line in record(work) if line["line"] == "ended"]


def night(work, day, during=None):
    """One night of cron, from 02:40 UTC."""
    simulated = calendar.timegm(time.strptime(f"{day} 02:40:00", "%Y-%m-%d %H:%M:%S"))
    begun = int(time.time())
    (work / "clock").write_text(f"simulated={simulated}\nbegun={begun}\n")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "TZ": "UTC",
        "LD_PRELOAD": FAKE,
        "FAKETIME": f"@{day} 02:40:00 x{SPEED}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    cron = subprocess.Popen(["/usr/sbin/cron", "-f"], env=environment, start_new_session=True)
    end = time.time() + HOURS * 3600 / SPEED
    while time.time() < end:
        if during and during():
            during = None
        time.sleep(0.05)
    os.killpg(cron.pid, signal.SIGTERM)
    cron.wait()
    # A rebuild that cron started goes on for a moment.
    while any(line["line"] == "begun" for line in record(work)[-1:]) and time.time() < end + 120 and running(work):
        time.sleep(0.1)


def running(work):
    """Ids of the processes of `sure rebuild` for this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if b"rebuild" in words and str(work / "weekly.toml").encode() in words:
            found.append(int(entry.name))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sure", type=Path, default=ROOT / "target/debug/sure")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    missing = [what for what in ("/usr/sbin/cron", FAKE) if not Path(what).exists()]
    if os.geteuid() != 0 or missing:
        print(f"note: left out, since it needs root{', and there is no ' + ', '.join(missing) if missing else ''}")
        return 0
    if not args.inside:
        return subprocess.call(["unshare", "-m", sys.executable, __file__, "--inside", *sys.argv[1:]])
    work = (args.keep or Path(tempfile.mkdtemp(prefix="sure-cron-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    system = Path(tempfile.mkdtemp(prefix="sure-cron-system-"))
    for name in ("spool/crontabs", "d", "run"):
        (system / name).mkdir(parents=True)
    (system / "crontab").write_text("")
    os.chmod(system / "spool/crontabs", 0o1730)
    shutil.chown(system / "spool/crontabs", group="crontab")
    Path("/var/spool/cron").mkdir(exist_ok=True)
    for own, theirs in (("crontab", "/etc/crontab"), ("spool", "/var/spool/cron"), ("d", "/etc/cron.d"), ("run", "/run")):
        subprocess.run(["mount", "--bind", system / own, theirs], check=True)
    disk = work / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", disk], check=True)

    sure = args.sure.resolve()
    subprocess.run([sure, "synth", "speech_commands", work / "corpus", "--speakers", "4", "--takes", "2"], check=True)
    (work / "sure.toml").write_text(f'store = "{disk}/store"\n[corpora]\nspeech_commands = "corpus"\n')
    workflow = (ROOT / "tests/it/tiny.toml").read_text().replace("max_steps = 24", "max_steps = 8")
    (work / "tiny.toml").write_text(workflow)
    (work / "weekly.toml").write_text(
        'name = "weekly"\nevery = "sunday 02:30"\nruns = ["./tiny.toml --set seed=1,2,3"]\n'
        '[disk]\nfree_at_least = "60M"\n[site]\nfolder = "www"\n'
    )
    wrapper = work / "bin/sure"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(WRAPPER.format(state=work / "clock", speed=SPEED, sure=sure))
    wrapper.chmod(0o755)
    text = subprocess.run([sure, "schedule", work / "weekly.toml", "--as", "cron"], check=True, capture_output=True, text=True).stdout
    # As root without mail: what a job prints goes nowhere.
    text = 'MAILTO=""\n' + text.replace(str(sure), str(wrapper))
    subprocess.run(["crontab", "-"], input=text, text=True, check=True)

    def kill():
        lines = record(work)
        if lines and lines[-1]["line"] == "begun":
            time.sleep(1.0)
            for process in running(work):
                os.kill(process, signal.SIGKILL)
            return True
        return False

    filler = disk / "filler"
    night(work, WEEKS[0])
    recording = sorted((work / "corpus/yes").glob("*.wav"))[0]
    shutil.copy(sorted((work / "corpus/no").glob("*.wav"))[0], recording)
    night(work, WEEKS[1])
    (work / "tiny.toml").write_text(workflow.replace("max_steps = 8", "max_steps = 7"))
    night(work, WEEKS[2], kill)
    free = shutil.disk_usage(disk).free
    filler.write_bytes(b"\0" * (free - 20_000_000))

    def clean():
        if ended(work)[-1]["outcome"] == "not_started":
            filler.unlink()
            return True
        return False

    night(work, WEEKS[3], clean)
    night(work, WEEKS[4])

    story = []
    for line in ended(work):
        causes = {cause["text"] for cell in line["cells"].values() for cause in cell.get("causes", [])}
        verdicts = sorted({cell["last"]["verdict"] for cell in line["cells"].values()})
        story.append((line["begun"], line["outcome"], verdicts, sorted(causes), line.get("reason"), line.get("notices", [])))
        print(*story[-1])
    begun = [line for line in record(work) if line["line"] == "begun"]
    outcomes = [line[1] for line in story]
    assert outcomes == ["done", "done", "done", "not_started", "done", "done"], outcomes
    assert len(begun) == 7, f"{len(begun)} began: six ended and one was killed"
    assert story[0][2] == ["new"] and story[5][2] == ["same"], story
    assert any(recording.name in text for text in story[1][3]), story[1]
    assert any("train.max_steps 8 -> 7" in text for text in story[2][3]), story[2]
    assert any("did not end" in text for text in story[2][5]), story[2]
    assert "are wanted" in story[3][4], story[3]
    assert [moment[:10] for moment, *_ in story] == [WEEKS[0], WEEKS[1], WEEKS[2], WEEKS[3], WEEKS[3], WEEKS[4]], story
    index = (work / "www/index.html").read_text()
    for text in (recording.name, "train.max_steps 8 -&gt; 7", "did not end", "are wanted"):
        assert text in index, f"`{text}` is not on the page"
    print(f"five weeks of cron: {len(begun)} began, {len(story)} ended; the site tells it")
    if args.keep:
        print(f"kept: {work}")
    else:
        subprocess.run(["umount", disk], check=False)
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(system, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
