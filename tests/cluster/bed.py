"""A private Slurm cluster on one machine: a controller and node daemons on ports of its own, with its own key and with devices that
stand for GPUs. Needs root and Debian's packages (see `install.sh`); no systemd, no control groups, no database.

Everything that a bed starts is ended by its id: daemons by the files they write, and what outlives a killed daemon by the bed's folder
in its environment.
"""

import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

CONF = """ClusterName=bed
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/run/munge.socket
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={dir}/run/slurmctld.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdPidFile={dir}/run/%n.pid
SlurmdLogFile={dir}/log/%n.log
SlurmdSpoolDir={dir}/spool/%n
StateSaveLocation={dir}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={dir}/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0,default_queue_depth=1000
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=30
KillWait=3
MinJobAge=60
MaxArraySize={max_array}
MaxJobCount=25000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""


def is_running(pid):
    """True for a process that is neither gone nor a zombie."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    state = next((line for line in text.splitlines() if line.startswith("State:")), "State: X")
    return state.split()[1] not in "XZ"


def end(pid, patience=5.0):
    """Ends a process by its id, and waits for that."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience
        while is_running(pid) and time.monotonic() < until:
            time.sleep(0.02)
        if not is_running(pid):
            return


class Bed:
    """A cluster in a folder. Use it with `with`: what it started is ended also after a failure."""

    def __init__(self, folder, nodes=3, cpus=4, max_array=10002, mounts=None):
        self.dir = Path(folder).resolve()
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus, self.max_array = cpus, max_array
        # Shell commands that each node runs in a mount namespace of its own, before its daemon starts.
        self.mounts = mounts or {}
        self.env = dict(os.environ, SLURM_CONF=f"{self.dir}/etc/slurm.conf")

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        for inner in ("etc", "run", "log", "state", "spool", "dev"):
            (self.dir / inner).mkdir(parents=True, exist_ok=True, mode=0o755)
        os.chmod(self.dir, 0o755)
        key = self.dir / "etc/munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for gpu in (0, 1):
            # Like /dev/null: Slurm wants character devices.
            os.mknod(self.dir / f"dev/gpu{gpu}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        self._configure()
        self._call(
            "munged",
            f"--key-file={key}",
            f"--socket={self.dir}/run/munge.socket",
            f"--pid-file={self.dir}/run/munged.pid",
            f"--log-file={self.dir}/log/munged.log",
            f"--seed-file={self.dir}/run/munge.seed",
            "--num-threads=2",
            "--force",
        )
        self.wait("munged", lambda: (self.dir / "run/munge.socket").is_socket())
        self._call("slurmctld", "-i", "-f", f"{self.dir}/etc/slurm.conf")
        self.wait("slurmctld", lambda: self.pid("slurmctld"))
        for node in self.nodes:
            self.again(node)
        self.wait("nodes", lambda: self.run("sinfo", "-h", "-N", "-p", "work", "-t", "idle", "-o", "%N").split() == self.nodes)

    def _configure(self):
        host = socket.gethostname().split(".")[0]
        port = free_ports(len(self.nodes) + 1)
        lines = [CONF.format(host=host, dir=self.dir, port=port, max_array=self.max_array)]
        for number, node in enumerate(self.nodes, 1):
            (self.dir / "spool" / node).mkdir(exist_ok=True)
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs={self.cpus}"
                " RealMemory=4000 Gres=gpu:2 State=UNKNOWN\n"
            )
        all_nodes = ",".join(self.nodes)
        lines.append(f"PartitionName=work Nodes={all_nodes} Default=YES MaxTime=INFINITE State=UP PriorityTier=1\n")
        lines.append(f"PartitionName=urgent Nodes={all_nodes} MaxTime=INFINITE State=UP PriorityTier=10\n")
        (self.dir / "etc/slurm.conf").write_text("".join(lines))
        (self.dir / "etc/gres.conf").write_text(f"NodeName={all_nodes} Name=gpu File={self.dir}/dev/gpu[0-1]\n")
        (self.dir / "etc/cgroup.conf").write_text("CgroupAutomount=no\n")

    def _call(self, *words):
        with open(self.dir / "log" / f"{Path(words[0]).name}.out", "ab") as out:
            subprocess.run(words, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=30)

    def wait(self, what, ready, patience=30.0):
        until = time.monotonic() + patience
        while not ready():
            if time.monotonic() > until:
                for log in sorted((self.dir / "log").iterdir()):
                    print(f"-- {log}", *log.read_text(errors="replace").splitlines()[-5:], sep="\n", file=sys.stderr)
                raise TimeoutError(f"{what}: not ready after {patience} s")
            time.sleep(0.05)

    def pid(self, name):
        """Id of a running daemon."""
        try:
            pid = int((self.dir / f"run/{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if is_running(pid) else None

    def again(self, name):
        """Starts a daemon, for the first time or again."""
        if name == "slurmctld":
            self._call("slurmctld", "-f", f"{self.dir}/etc/slurm.conf")
            self.wait(name, lambda: self.pid(name))
            return
        command = ["slurmd", "-N", name, "-f", f"{self.dir}/etc/slurm.conf"]
        if name in self.mounts:
            script = f"{self.mounts[name]} && exec {' '.join(command)}"
            command = ["unshare", "--mount", "sh", "-c", script]
        self._call(*command)

    def kill(self, name):
        """Kills a daemon as a crash does."""
        os.kill(self.pid(name), signal.SIGKILL)

    def freeze(self, name):
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name):
        os.kill(self.pid(name), signal.SIGCONT)

    def run(self, *words, check=False):
        """Standard output of a client program."""
        done = subprocess.run(words, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check, timeout=60)
        return done.stdout

    def jobs(self):
        """Elements that wait or run: job, name, state, node."""
        text = self.run("squeue", "-h", "-r", "-o", "%F_%K|%j|%T|%N")
        return [line.split("|") for line in text.splitlines()]

    def completed(self):
        """Elements that have ended, as Slurm recorded them: a dictionary for each."""
        path = self.dir / "log/jobcomp.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def ours(self):
        """Processes with this bed in their environment that a job or a daemon of it started."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                name = Path(f"/proc/{entry}/comm").read_text().strip()
            except OSError:
                continue
            if f"SLURM_CONF={self.dir}/etc/slurm.conf".encode() not in environment:
                continue
            in_job = any(word.startswith(b"SLURM_JOB_ID=") for word in environment)
            if in_job or name in ("slurmstepd", "slurmd", "slurmctld", "bindfs"):
                found.append(int(entry))
        return found

    def stop(self):
        """Ends everything. Returns the ids of what only this ended, beside the daemons."""
        if self.pid("slurmctld"):
            user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
            try:
                self.run("scancel", f"--user={user}")
                self.wait("queue", lambda: not self.jobs(), 6.0)
            except (TimeoutError, subprocess.TimeoutExpired):
                pass
        daemons = [self.pid(name) for name in ("slurmctld", *self.nodes, "munged")]
        for pid in filter(None, daemons):
            end(pid)
        left = [pid for pid in self.ours() if pid not in daemons]
        for pid in left:
            end(pid, 1.0)
        return left


def free_ports(count):
    """First of so many ports in a row that nobody listens on."""
    for _ in range(200):
        first = random.randrange(20000, 31000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


def missing():
    """Programs that a bed needs and this machine lacks."""
    return [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel") if not shutil.which(name)]
