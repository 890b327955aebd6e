#!/usr/bin/env python3
"""Tests of runs on Slurm: a private cluster of three nodes, real jobs, real faults. Root only; `install.sh` names the packages.

    run.py TARGET [--only NAME,NAME] [--keep]        TARGET is the folder of the build: target/debug

With RUN_SLOW_TESTS=1 the faults that take minutes are tried too. Every process that a test starts is ended by its id.
"""

import argparse
import contextlib
import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bed import Bed, end, is_running, missing

ROOT = Path(__file__).resolve().parents[2]
# No fault may hold a run up for longer, beside the times that Slurm itself takes.
HANG = 180


class Project:
    """A workflow of toy stages with a store, on a bed."""

    def __init__(self, bed, toy, work, delay=5.0):
        self.bed, self.toy, self.delay = bed, toy, delay
        self.dir = Path(tempfile.mkdtemp(dir=work))
        self.started = []
        (self.dir / "books").mkdir()
        self.env = dict(bed.env)
        self.extra = []

    def alone(self):
        """One task in each element from now on."""
        self.env["TOY_ALONE"] = "1"
        return self

    def write(self, text):
        (self.dir / "toy.toml").write_text(text)

    def start(self, store="store", program=None):
        words = [program or self.toy, "cluster", "toy.toml", store, "books", "ledger", "shared", str(self.delay), *self.extra]
        out = tempfile.NamedTemporaryFile("w+", dir=self.dir, prefix="out.", delete=False)
        process = subprocess.Popen(words, cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        process.text = lambda: Path(out.name).read_text()
        self.started.append(process)
        return process

    def wait(self, process, patience=HANG):
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{process.text()}\n{self.bed.run('squeue', '-r')}") from None
        return code

    def run(self, **more):
        process = self.start(**more)
        code = self.wait(process)
        return code, process.text()

    def local(self):
        """Artifacts of the same workflow, made on this machine alone."""
        # Steps that take no time end with the same bytes.
        text = re.sub(r"millis = \d+", "millis = 0", (self.dir / "toy.toml").read_text())
        (self.dir / "fast.toml").write_text(text)
        words = [self.toy, "drive", "fast.toml", "local", "books", "ledger.local"]
        subprocess.run(words, cwd=self.dir, check=True, capture_output=True, timeout=HANG)
        return artifacts(self.dir / "local/objects")

    def made(self):
        return artifacts(self.dir / "store/objects")

    def bodies(self):
        """Number of bodies that ran."""
        ledger = self.dir / "ledger"
        return len(ledger.read_text().splitlines()) if ledger.exists() else 0

    def waves(self):
        """Intents of all waves."""
        return [json.loads(path.read_text()) for path in sorted(self.dir.glob("shared/*/waves/*/wave.json"))]

    def wait_for(self, what, ready, patience=60.0):
        until = time.monotonic() + patience
        while not ready():
            assert time.monotonic() < until, f"{what}: not after {patience} s: {self.bed.run('squeue', '-r')}"
            time.sleep(0.1)

    def running(self, count=1):
        """Waits until so many elements run."""
        self.wait_for("running elements", lambda: sum(job[2] == "RUNNING" for job in self.bed.jobs()) >= count)

    def elements(self, on=""):
        """Processes that run an element."""
        found = []
        for pid in self.bed.ours():
            with contextlib.suppress(OSError):
                is_node = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:2] == ["node"]
                if is_node and f"SLURMD_NODENAME={on}" in Path(f"/proc/{pid}/environ").read_text():
                    found.append(pid)
        return found

    def check(self, code, text, expected=0):
        assert code == expected, text
        self.same()

    def same(self, closed=True):
        """The results are those of a run on this machine, and nothing is left over."""
        assert self.made() == self.local()
        if not closed:
            return  # a run with nothing to do looks at no wave
        open_waves = [path for path in self.dir.glob("shared/*/waves/*") if not (path / "closed").exists()]
        assert not open_waves, open_waves
        states = [path for path in self.dir.glob("shared/*/resume/*")]
        assert not states, states

    def reached(self):
        """Names of the waves that reached Slurm: it gave them a job, or has recorded their end."""
        names = {path.parent.name for path in self.dir.glob("shared/*/waves/*/job")}
        return names | {job.get("Name") for job in self.bed.completed()} | {job[1] for job in self.bed.jobs()}

    def submitted(self, waves=None):
        """Number of attempts at each fingerprint, in these waves or in all."""
        counts = {}
        for wave in self.waves() if waves is None else waves:
            for task in wave["tasks"]:
                counts[task["fingerprint"]] = counts.get(task["fingerprint"], 0) + 1
        return counts

    def shim(self, name, script):
        """Puts a script in front of a client program of Slurm; `$REAL` is the program."""
        folder = self.dir / "shims"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/bash\nREAL={shutil.which(name)}\nDIR={self.dir}\n{script}\n")
        path.chmod(0o755)
        self.env["PATH"] = f"{folder}:{self.bed.env['PATH']}"

    def close(self):
        for process in self.started:
            if process.poll() is None:
                end(process.pid)
                process.wait()
        self.bed.run("scancel", "--user=root")
        with contextlib.suppress(TimeoutError):
            self.bed.wait("queue", lambda: not self.bed.jobs(), 10.0)


@contextlib.contextmanager
def bound(real, place, *options):
    """Shows a folder at another place, by a file system of its own that passes on no locks."""
    process = subprocess.Popen(["bindfs", "-f", *options, real, place])
    try:
        until = time.monotonic() + 20
        while not os.path.ismount(place):
            assert time.monotonic() < until and process.poll() is None, f"{place} is not mounted"
            time.sleep(0.05)
        yield
    finally:
        for _ in range(50):
            if process.poll() is not None or subprocess.run(["fusermount", "-u", place], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)
        end(process.pid)
        process.wait()


def artifacts(objects):
    """All files below a folder of artifacts, with their content."""
    return {str(path.relative_to(objects)): path.read_bytes() for path in sorted(objects.rglob("*")) if path.is_file()}


def texts(count, stage=""):
    """As many texts, and one that joins them."""
    values = ", ".join(str(number) for number in range(count))
    return (
        f'[workflow]\nname = "texts"\n[matrix]\nshard = [{values}]\n'
        f'[stages.text]\nrun = "toy.text"\ntext = "text {{shard}}"\n{stage}'
        '[stages.all]\nrun = "toy.join"\ngather = ["shard"]\ninputs.texts = "text/text.txt"\n'
    )


def steps(count, number, millis):
    """As many trainings, of so many steps each."""
    values = ", ".join(str(number) for number in range(count))
    return (
        f'[workflow]\nname = "steps"\n[matrix]\nshard = [{values}]\n'
        '[stages.text]\nrun = "toy.text"\ntext = "text {shard}"\nlimits = { site = "local" }\n'
        f'[stages.train]\nrun = "toy.steps"\nsteps = {number}\nmillis = {millis}\ninputs.texts = "text/text.txt"\n'
    )


# --- tests that always run


def happy(context):
    """300 shards and eight trainings of `sure`, with GPUs from their allocation: the artifacts are those of a run on this machine."""
    bed, sure = context.bed, context.sure
    work = Path(tempfile.mkdtemp(dir=context.work))
    subprocess.run([sure, "synth", "speech_commands", "corpus"], cwd=work, check=True, capture_output=True)
    shutil.copy(ROOT / "tests/it/tiny.toml", work)
    base = '[corpora]\nspeech_commands = "corpus"\n[pools]\ncpu = 1\n'
    executor = '[executor.slurm]\nfolder = "shared"\ncpus = 1\nmemory_mib = 200\ngres = "gpu:1"\nresult_delay = "10s"\n'
    (work / "sure.toml").write_text(base + executor)
    args = ["run", "./tiny.toml", "--set", "manifest.partitions=300", "--set", "seed=1,2,3,4", "--set", "train.max_steps=6"]
    doctor = subprocess.run([sure, "doctor"], cwd=work, env=bed.env, capture_output=True, text=True)
    assert "slurm" in doctor.stdout and "it would take a job" in doctor.stdout, doctor.stdout + doctor.stderr
    begun = time.monotonic()
    # The folder of the workers is closed to no node here: all are this machine.
    done = subprocess.run([sure, *args], cwd=work, env=bed.env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    on_cluster = time.monotonic() - begun
    begun = time.monotonic()
    local = subprocess.run([sure, *args, "--local", "--store", "local"], cwd=work, capture_output=True, text=True, timeout=900)
    assert local.returncode == 0, local.stdout + local.stderr
    on_machine = time.monotonic() - begun
    ours, theirs = artifacts(work / ".sure/objects"), artifacts(work / "local/objects")
    different = [path for path in sorted(set(ours) | set(theirs)) if ours.get(path) != theirs.get(path)]
    assert not different, f"{len(different)} of {len(theirs)} files differ: {different[:5]}"
    nodes = [path for path in work.glob("shared/*/waves/*/wave.json")]
    tasks = [task["node"] for path in nodes for task in json.loads(path.read_text())["tasks"]]
    shards, trainings = (sum(task.startswith(stage) for task in tasks) for stage in ("shards", "train["))
    assert (shards, trainings) == (300, 8), (shards, trainings)
    logs = "".join(path.read_text() for path in work.glob("shared/*/waves/*/log/*.log"))
    assert "CUDA_VISIBLE_DEVICES=0" in logs and "CUDA_VISIBLE_DEVICES=1" in logs and "SLURM_CPUS_PER_TASK" in logs, logs[:2000]
    again = subprocess.run([sure, *args], cwd=work, env=bed.env, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and len(list(work.glob("shared/*/waves/*/wave.json"))) == len(nodes), again.stderr
    context.say(f"{len(theirs)} files equal; {on_cluster:.0f} s on the cluster, {on_machine:.0f} s on this machine with one core")


def many(context):
    """1000 texts: few calls of `sbatch`, and the same artifacts."""
    project = context.project()
    project.write(texts(1000))
    project.shim("sbatch", 'echo call >> "$DIR/calls"; exec "$REAL" "$@"')
    project.check(*project.run())
    calls = len((project.dir / "calls").read_text().splitlines())
    assert calls <= 2, calls
    assert project.bodies() == 1001 and max(project.submitted().values()) == 1


def stopped(context):
    """Ctrl-C leaves the jobs to the next run, which takes their results over: every body runs once."""
    project = context.project().alone()
    project.write(steps(6, 30, 100))
    first = project.start()
    project.running(3)
    time.sleep(0.5)
    first.send_signal(signal.SIGINT)
    assert project.wait(first, 20) == 1 and "go on; run again to take over" in first.text(), first.text()
    assert project.bed.jobs(), "the jobs go on"
    code, text = project.run()
    assert "under way since an earlier run" in text, text
    project.check(code, text)
    assert project.bodies() == 6 + 6, project.bodies()
    assert max(project.submitted().values()) == 1


def cancelled(context):
    """With --cancel, a stop cancels the jobs; the next run goes on from the newest states."""
    project = context.project().alone()
    project.write(steps(2, 80, 100))
    project.env["TOY_CANCEL"] = "1"
    first = project.start()
    project.running(2)
    project.wait_for("states", lambda: len(list(project.dir.glob("shared/*/resume/*/*/place"))) == 2)
    first.send_signal(signal.SIGINT)
    assert project.wait(first, 20) == 1 and "cancelled" in first.text(), first.text()
    project.wait_for("an empty queue", lambda: not project.bed.jobs(), 20)
    code, text = project.run()
    assert "resumed at" in text, text
    project.check(code, text)


def killed(context):
    """The controller is killed at random moments: no second submission, and no task with a result runs again."""
    rounds = 100 if context.slow else 12
    project = context.project()
    project.write(texts(300, 'limits = { memory_mib = 100 }\n') + "")
    random.seed(rounds)
    kills = lost = 0
    while True:
        process = project.start()
        if kills == rounds:
            code = project.wait(process)
            break
        time.sleep(random.uniform(0.02, 0.6 if kills < rounds // 2 else 1.5))
        if process.poll() is not None:
            # All is done: begin again with another store, so that every kill hits a run at work.
            assert process.returncode == 0, process.text()
            lost += finish(project)
            project = context.project()
            project.write(texts(300, 'limits = { memory_mib = 100 }\n'))
            continue
        process.kill()
        process.wait()
        kills += 1
    assert code == 0, process.text()
    lost += finish(project)
    context.say(f"{kills} kills, {lost} of them between an intent and its submission")


def finish(project):
    """Checks a run that was killed. Returns the number of intents that never reached Slurm: their tasks were submitted with another."""
    project.same(closed=False)
    reached = project.reached()
    waves = [wave for wave in project.waves() if wave["name"] in reached]
    twice = [count for count in project.submitted(waves).values() if count > 1]
    assert not twice, f"{len(twice)} tasks were submitted twice"
    assert project.bodies() == 300 + 1, f"{project.bodies()} bodies ran"
    return len(project.waves()) - len(waves)


def killed_at_submission(context):
    """The controller is killed right before and right after its array is submitted: the next run submits it, or finds it by its name."""
    for submits in (True, False):
        project = context.project(delay=1.0)
        project.write(texts(20))
        act = '"$REAL" "$@" > /dev/null; ' if submits else ""
        project.shim("sbatch", f'[ -e "$DIR/once" ] || {{ touch "$DIR/once"; {act}kill -9 $PPID; exit 1; }}; exec "$REAL" "$@"')
        code, text = project.run()
        assert code == -signal.SIGKILL, text
        project.check(*project.run())
        attempts = max(project.submitted().values())
        assert (attempts, project.bodies()) == (1 if submits else 2, 20 + 1), (attempts, project.bodies())


def two_runs(context):
    """Two runs of a store share what is under way: nothing is submitted twice, also when the first is killed."""
    project = context.project().alone()
    project.write(steps(4, 30, 100))
    first = project.start()
    project.running(2)
    second = project.start()
    time.sleep(1.0)
    first.kill()
    first.wait()
    code = project.wait(second)
    project.check(code, second.text())
    assert max(project.submitted().values()) == 1 and project.bodies() == 4 + 4


def failing(context):
    """A body that fails, panics, aborts or dies is told as on this machine, and others are not harmed."""
    project = context.project()
    project.write(
        '[workflow]\nname = "bad"\n[matrix]\nact = ["fail", "panic", "abort", "write"]\n'
        '[stages.text]\nrun = "toy.text"\ntext = "text"\nlimits = { site = "local" }\n'
        '[stages.far]\nrun = "toy.far"\nact = "{act}"\ninputs.texts = "text/text.txt"\n'
    )
    code, text = project.run()
    assert code == 1, text
    for expected in (
        "far[act=fail]: the ink is dry: the pot is empty; hint: fill the pot",
        "far[act=panic]: the stage panicked: no ink",
        "far[act=abort]: the worker ended without a result",
        "ran far[act=write]",
    ):
        assert expected in text, f"{expected}\n{text}"
    project.write(steps(1, 1000, 100) + 'limits = { time = "2s" }\n')
    code, text = project.run()
    assert code == 1 and "not done within its time limit of 2s" in text, text


def by_hand(context):
    """A job that somebody cancels fails and says so."""
    project = context.project(delay=2.0).alone()
    project.write(steps(1, 600, 100))
    process = project.start()
    project.running(1)
    job = project.bed.jobs()[0][0]
    project.bed.run("scancel", job)
    code = project.wait(process)
    assert code == 1 and "cancelled on the cluster" in process.text(), process.text()


def lost_reply(context):
    """`sbatch` is accepted and its answer is lost: the job is found by its name, and not submitted again."""
    project = context.project()
    project.write(texts(40))
    project.shim("sbatch", '"$REAL" "$@" > "$DIR/reply" 2>&1; [ -e "$DIR/lost" ] && cat "$DIR/reply" || { touch "$DIR/lost"; echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1; }')
    code, text = project.run()
    assert "no clear answer" in text, text
    project.check(code, text)
    assert max(project.submitted().values()) == 1


def bad_squeue(context):
    """`squeue` is slow, then empty, then prints garbage, then fails: no verdict, and no result is lost."""
    project = context.project(delay=2.0).alone()
    project.write(steps(12, 170, 100) + "limits = { threads = 4 }\n")
    project.shim(
        "squeue",
        'case "$*" in *--me*) n=$(cat "$DIR/n" 2>/dev/null || echo 0); echo $((n + 1)) > "$DIR/n";\n'
        'case $n in 0) sleep 12; exec "$REAL" "$@";; 1) exit 0;; 2) echo "7|x|garbage";; *) echo "slurm_load_jobs error" >&2; exit 1;; esac;; esac\n'
        'exec "$REAL" "$@"',
    )
    code, text = project.run()
    project.check(code, text)
    assert max(project.submitted().values()) == 1, text
    assert int((project.dir / "n").read_text()) >= 3


def limits(context):
    """Arrays of at most ten elements, and at most three jobs at a time: all runs, in small arrays."""
    with Bed(Path(tempfile.mkdtemp(dir=context.work)), nodes=1, max_array=10) as bed:
        project = Project(bed, context.toy, context.work).alone()
        try:
            project.write(steps(12, 2, 100))
            project.shim(
                "sbatch",
                'n=$("$(dirname "$REAL")/squeue" -h -r | wc -l); for word; do case $word in --array=0-*) last=${word#--array=0-}; n=$((n + last + 1));; esac; done\n'
                '[ $n -le 3 ] || { echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user\'s size and/or time limits)" >&2; exit 1; }\n'
                'exec "$REAL" "$@"',
            )
            project.check(*project.run())
            assert max(len(wave["elements"]) for wave in project.waves()) <= 3
            project = Project(bed, context.toy, context.work).alone()
            project.write(texts(12))
            project.check(*project.run())
            assert max(len(wave["elements"]) for wave in project.waves()) == 10
        finally:
            project.close()


def refused(context):
    """A job that the cluster does not take fails at once, with the cluster's words and what to do; so does one where arrays are switched off."""
    project = context.project()
    project.write(texts(3))
    project.extra = ["--partition=nowhere"]
    begun = time.monotonic()
    code, text = project.run()
    assert code == 1 and "Invalid partition name" in text and "sure doctor" in text, text
    assert "does not take its job: sbatch: error" in text, text
    assert time.monotonic() - begun < 20 and not list(project.dir.glob("shared/*/waves/*/wave.json"))
    with Bed(Path(tempfile.mkdtemp(dir=context.work)), nodes=1, max_array=0) as bed:
        project = Project(bed, context.toy, context.work)
        try:
            project.write(texts(3))
            code, text = project.run()
            assert code == 1 and "Invalid job array specification" in text, text
        finally:
            project.close()


def replaced(context):
    """The program is replaced while a wave is open: its elements run the one that submitted them."""
    project = context.project().alone()
    project.write(steps(20, 10, 100))
    own = project.dir / "toy"
    shutil.copy(context.toy, own)
    process = project.start(program=str(own))
    project.running(3)
    own.unlink()
    own.write_text("#!/bin/sh\nexit 1\n")
    own.chmod(0o755)
    code = project.wait(process)
    assert code == 0, process.text()
    project.same()
    assert max(project.submitted().values()) == 1


def lost_element(context):
    """The process of an element is killed: its tasks run again elsewhere."""
    project = context.project(delay=3.0).alone()
    project.write(steps(2, 60, 100))
    process = project.start()
    project.running(2)
    project.wait_for("elements", project.elements)
    os.kill(project.elements()[0], signal.SIGKILL)
    code = project.wait(process)
    project.check(code, process.text())
    assert sorted(project.submitted().values()) == [1, 2], project.submitted()
    assert any(wave["exclude"] for wave in project.waves())


# --- faults that take minutes


def node_fails(context):
    """A node dies (NODE_FAIL) with what runs on it: the task goes on from its newest state on another node."""
    project = context.project(delay=5.0).alone()
    project.write(steps(3, 900, 100) + "limits = { threads = 4 }\n")
    process = project.start()
    project.running(3)
    project.wait_for("states", lambda: len(list(project.dir.glob("shared/*/resume/*/*/place"))) == 3)
    victim = project.bed.jobs()[0][3]
    project.bed.kill(victim)
    for pid in project.elements(on=victim):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(parent, signal.SIGKILL)  # so that nobody tells how it ended
        os.kill(pid, signal.SIGKILL)
    code = project.wait(process, HANG + 120)
    project.bed.again(victim)
    text = process.text()
    project.check(code, text)
    ends = [job.get("JobState") for job in project.bed.completed()]
    assert "NODE_FAIL" in ends and "NODE_FAIL" in text and "resumed at" in text, text
    assert sorted(project.submitted().values()) == [1, 1, 2]


def node_freezes(context):
    """A node daemon hangs, and its jobs run on: their results count."""
    project = context.project(delay=5.0).alone()
    project.write(steps(3, 900, 100))
    process = project.start()
    project.running(3)
    victim = project.bed.jobs()[0][3]
    project.bed.freeze(victim)
    try:
        code = project.wait(process, HANG + 120)
    finally:
        project.bed.thaw(victim)
    project.check(code, process.text())


def twin(context):
    """A process that Slurm gave up ends after its replacement: its result is dropped."""
    project = context.project(delay=3.0).alone()
    project.write(steps(1, 700, 100))
    process = project.start()
    project.running(1)
    project.wait_for("elements", project.elements)
    pid = project.elements()[0]
    victim = project.bed.jobs()[0][3]
    os.kill(pid, signal.SIGSTOP)
    project.bed.kill(victim)
    code = project.wait(process, HANG + 120)
    os.kill(pid, signal.SIGCONT)
    project.bed.again(victim)
    project.check(code, process.text())
    project.wait_for("the end of the twin", lambda: not is_running(pid), 120)
    project.same()
    assert list(project.submitted().values()) == [2]


def controller_dies(context):
    """Slurm's controller is killed and started again: the run goes on."""
    project = context.project(delay=5.0).alone()
    project.write(steps(4, 250, 100))
    process = project.start()
    project.running(3)
    time.sleep(8)  # what Slurm has not saved by then it cancels after its restart, as jobs that it does not know
    project.bed.kill("slurmctld")
    time.sleep(12)
    project.bed.again("slurmctld")
    code = project.wait(process, HANG + 60)
    project.check(code, process.text())
    project.bed.run("scontrol", "update", "nodename=ALL", "state=resume")
    assert max(project.submitted().values()) <= 2


def controller_down(context):
    """Slurm's controller is down when a wave is due: the run waits and submits once."""
    project = context.project(delay=5.0)
    project.write(texts(40))
    project.bed.kill("slurmctld")
    process = project.start()
    time.sleep(15)
    assert process.poll() is None, process.text()
    project.bed.again("slurmctld")
    code = project.wait(process, HANG)
    project.check(code, process.text())
    assert project.bodies() == 41


def preempted(context):
    """A job of a higher partition takes the nodes: the training goes on from its newest state afterwards."""
    project = context.project(delay=5.0).alone()
    project.write(steps(1, 300, 100))
    process = project.start()
    project.running(1)
    project.wait_for("a state", lambda: list(project.dir.glob("shared/*/resume/*/*/place")))
    node = project.bed.jobs()[0][3]
    project.bed.run("sbatch", "-p", "urgent", "-w", node, "--exclusive", "--mem=4000", "-o", "/dev/null", "--wrap", "sleep 20", check=True)
    code = project.wait(process, HANG + 60)
    text = process.text()
    assert "PREEMPTED" in text and "resumed at" in text, text
    project.check(code, text)


def held(context):
    """A job is held, then suspended while it runs: the run waits, says why, and goes on."""
    project = context.project(delay=2.0).alone()
    project.write(steps(1, 100, 100))
    project.extra = ["--hold"]
    process = project.start()
    project.wait_for("the reason", lambda: "1 wait (JobHeldUser)" in process.text())
    job = project.bed.jobs()[0][0]
    project.bed.run("scontrol", "release", job.split("_")[0], check=True)
    project.running(1)
    project.bed.run("scontrol", "suspend", job, check=True)
    time.sleep(15)
    assert process.poll() is None and project.bed.jobs()[0][2] == "SUSPENDED", process.text()
    project.bed.run("scontrol", "resume", job, check=True)
    code = project.wait(process)
    project.check(code, process.text())
    assert list(project.submitted().values()) == [1] and project.bodies() == 1 + 1


def time_limit(context):
    """A time limit of one minute: the training goes on from its newest state, again and again."""
    project = context.project(delay=5.0).alone()
    project.write(steps(1, 1000, 100))
    project.env["TOY_TIME"] = "60"
    process = project.start()
    code = project.wait(process, 600)
    text = process.text()
    assert "goes on from its newest state" in text and "resumed at" in text, text
    project.check(code, text)
    project = context.project(delay=5.0)
    project.write(
        '[workflow]\nname = "late"\n[stages.text]\nrun = "toy.text"\ntext = "text"\nlimits = { site = "local" }\n'
        '[stages.far]\nrun = "toy.far"\nact = "hang"\ninputs.texts = "text/text.txt"\n'
    )
    project.env["TOY_TIME"] = "60"
    code, text = project.run()
    assert code == 1 and "reached its time limit" in text and "`time`" in text, text


def memory(context):
    """Slurm tells that an element ran out of memory: once more with half as much again, then it fails."""
    project = context.project(delay=2.0).alone()
    project.write(steps(1, 50000, 100))
    project.shim("squeue", 'case "$*" in *--me*) "$REAL" "$@" | sed -E "s/[|]FAILED[|][^|]*[|]/|OUT_OF_MEMORY|OutOfMemory|/"; exit;; esac; exec "$REAL" "$@"')
    process = project.start()
    for count in (1, 2):
        project.wait_for("an element", lambda: len(project.waves()) == count and project.elements(), HANG)
        os.kill(project.elements()[0], signal.SIGKILL)
    code = project.wait(process)
    text = process.text()
    assert code == 1 and "again with 150 MiB" in text and "ran out of memory" in text and "memory_mib" in text, text
    assert sorted(wave["class"]["memory_mib"] for wave in project.waves()) == [100, 150]


def late_files(context):
    """Compute nodes that share no kernel with the controller, and see each other's files 20 s late: nothing is lost."""
    work = Path(tempfile.mkdtemp(dir=context.work))
    (work / "real").mkdir()
    (work / "shared").mkdir()
    late = ["-o", "attr_timeout=20,entry_timeout=20,negative_timeout=20"]
    mounts = {f"n{number}": f"bindfs {' '.join(late)} {work}/real {work}/shared" for number in (1, 2, 3)}
    with bound(work / "real", work / "shared", *late):
        with Bed(work / "bed", mounts=mounts) as bed:
            project = Project(bed, context.toy, work / "real", delay=40.0)
            try:
                # The controller works through its own mount; its store stays on the disk.
                project.write(texts(60) + steps(3, 20, 100).split("[matrix]")[0].replace("[workflow]", "# ").replace('name = "steps"', ""))
                project.write(texts(60))
                shutil.rmtree(project.dir / "shared", ignore_errors=True)
                exchange = work / "shared/exchange"
                exchange.mkdir()
                (project.dir / "shared").symlink_to(exchange)
                # Programs and ledgers are on the disk of this machine, which nodes see as it is.
                code, text = project.run()
                assert code == 0, text
                assert project.made() == project.local()
                assert max(project.submitted().values()) == 1 and project.bodies() == 61
            finally:
                project.close()


def full_folder(context):
    """The shared folder is full: the run fails and says so; with room again it goes on."""
    work = Path(tempfile.mkdtemp(dir=context.work))
    (work / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={os.path.getsize(context.toy) + (24 << 20)}", "none", work / "small"], check=True)
    try:
        project = context.project(delay=5.0)
        (project.dir / "shared").symlink_to(work / "small")
        project.write(texts(40))
        filler = work / "small/filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
        code, text = project.run()
        assert code != 0 and ("No space left" in text or "full" in text), text
        filler.unlink()
        code, text = project.run()
        project.check(code, text)
    finally:
        for _ in range(50):
            if subprocess.run(["umount", work / "small"], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)


def other_host(context):
    """Another host (a mount that passes on no locks) may look at a store with a living run, and may not write to it."""
    sure = context.sure
    work = Path(tempfile.mkdtemp(dir=context.work))
    (work / "real").mkdir()
    (work / "n2").mkdir()
    subprocess.run([sure, "synth", "speech_commands", "corpus"], cwd=work / "real", check=True, capture_output=True)
    shutil.copy(ROOT / "tests/it/tiny.toml", work / "real")
    (work / "real/sure.toml").write_text('[corpora]\nspeech_commands = "corpus"\n')
    with bound(work / "real", work / "n2"):
        args = ["run", "./tiny.toml", "shards", "--set", "manifest.partitions=100"]
        looks = 0
        for turn in range(2):
            command = [sure, *args, "--set", f"shards.sample_rate={16000 - turn}"]
            living = subprocess.Popen(command, cwd=work / "real", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                while living.poll() is None:
                    for command in (["runs"], ["store", "du"], ["runs", "1"]):
                        looked = subprocess.run([sure, *command], cwd=work / "n2", capture_output=True, text=True)
                        assert looked.returncode == 0 or turn == 0, looked.stderr
                        looks += living.poll() is None
                assert living.returncode == 0, f"{living.returncode}: {living.stderr.read()}"
            finally:
                if living.poll() is None:
                    end(living.pid)
                    living.wait()
        assert looks >= 3, looks
        written = subprocess.run([sure, *args], cwd=work / "n2", capture_output=True, text=True)
        assert written.returncode == 2 and "network file system (fuse" in written.stderr, written.stderr
        assert "hint: keep the store on a local disk" in written.stderr, written.stderr
    context.say(f"{looks} looks at two living runs of 100 partitions")


def explained(context):
    """`sure why` and the display show what Slurm reports; Ctrl-C with --cancel leaves no job."""
    bed, sure = context.bed, context.sure
    work = Path(tempfile.mkdtemp(dir=context.work))
    subprocess.run([sure, "synth", "speech_commands", "corpus"], cwd=work, check=True, capture_output=True)
    shutil.copy(ROOT / "tests/it/tiny.toml", work)
    (work / "sure.toml").write_text(
        '[corpora]\nspeech_commands = "corpus"\n[executor.slurm]\nfolder = "shared"\nmemory_mib = 200\nextra = ["--hold"]\n'
    )
    words = [sure, "run", "./tiny.toml", "shards", "--cancel"]
    living = subprocess.Popen(words, cwd=work, env=bed.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        said, until = "", time.monotonic() + 60
        while "PENDING (JobHeldUser)" not in said:
            assert time.monotonic() < until and living.poll() is None, said
            time.sleep(1)
            said = subprocess.run([sure, "why", "./tiny.toml:shards#1"], cwd=work, env=bed.env, capture_output=True, text=True).stdout
        assert re.search(r"shards#1 waits in run 1 on the cluster: job \d+_0 is PENDING", said), said
        living.send_signal(signal.SIGINT)
        _, told = living.communicate(timeout=60)
        assert living.returncode == 130 and "1 element of jobs cancelled" in told, told
        assert "cluster: 0 elements run, 1 wait (JobHeldUser)" in told, told
        bed.wait("queue", lambda: not bed.jobs(), 20)
    finally:
        if living.poll() is None:
            end(living.pid)
            living.wait()


ALWAYS = [many, stopped, cancelled, killed, two_runs, failing, by_hand, lost_reply, bad_squeue, limits, refused, replaced, lost_element, explained, other_host, happy]
SLOW = [killed_at_submission, node_fails, node_freezes, twin, controller_dies, controller_down, preempted, held, time_limit, memory, late_files, full_folder]


class Context:
    def __init__(self, bed, args, work):
        self.bed, self.work = bed, work
        self.toy = str(Path(args.target).resolve() / "examples/toy")
        self.sure = str(Path(args.target).resolve() / "sure")
        self.slow = os.environ.get("RUN_SLOW_TESTS") == "1"
        self.projects, self.said = [], ""

    def project(self, **more):
        project = Project(self.bed, self.toy, self.work, **more)
        self.projects.append(project)
        return project

    def say(self, text):
        self.said = text

    def close(self):
        for project in self.projects:
            project.close()
        self.projects = []


def tried(test, context):
    """Runs a test. Returns its outcome and how long it took."""
    begun = time.monotonic()
    context.said = ""
    try:
        test(context)
        outcome = "ok"
    except Exception:
        outcome = "FAILED"
        traceback.print_exc()
    finally:
        context.close()
    return outcome, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--only", default="", help="names of tests")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the bed")
    args = parser.parse_args()
    if missing():
        sys.exit(f"error: {', '.join(missing())}: not installed; tests/cluster/install.sh installs what is needed")
    if os.geteuid() != 0:
        sys.exit("error: a private cluster needs root")
    # The slow ones mostly wait: they run beside the others, on a cluster of their own.
    groups = [ALWAYS, SLOW] if os.environ.get("RUN_SLOW_TESTS") == "1" else [ALWAYS]
    if args.only:
        groups = [[test for test in ALWAYS + SLOW if test.__name__ in args.only.split(",")]]
    work = tempfile.mkdtemp(prefix="sure-cluster-")
    begun, failed, contexts = time.monotonic(), [], []

    def stop(number, _):
        """Ends what the tests have started, then this process: they run in threads, which nothing interrupts."""
        for context in contexts:
            context.close()
            context.bed.stop()
        shutil.rmtree(work, ignore_errors=True)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    def run(number, tests):
        bed = Bed(Path(work) / f"bed{number}")
        with bed:
            context = Context(bed, args, work)
            contexts.append(context)
            for test in tests:
                outcome, secs = tried(test, context)
                if outcome != "ok":
                    failed.append(test.__name__)
                said = f": {context.said}" if context.said else ""
                print(f"{outcome:6} {test.__name__} ({secs:.1f} s){said}", flush=True)
        left = bed.ours()
        assert not left, f"processes are left: {left}"

    try:
        with ThreadPoolExecutor(len(groups)) as pool:
            for group in [pool.submit(run, number, tests) for number, tests in enumerate(groups)]:
                group.result()
        print(f"{time.monotonic() - begun:.0f} s", flush=True)
    finally:
        if args.keep:
            print(f"left: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    if failed:
        sys.exit(f"{len(failed)} of {sum(map(len, groups))} tests failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
