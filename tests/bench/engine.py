"""Measures the engine beside ninja and b3sum, with `--all` also beside make and snakemake; see `engine.sh`, which sets everything up.

Every figure of ours is a whole process, from its start to its end, as those of the others are. Times are medians of rounds in
which the contenders take turns. What a part leaves behind is removed at the very end: ext4 without a journal makes files more
slowly for minutes after many were deleted.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import graphs
from measure import Table, run, secs, side_by_side

JOBS = 2


class Bench:
    """The tools, the sizes and the table."""

    def __init__(self, args, table):
        self.toy = args.toy.resolve()
        self.ninja = [args.bin.resolve() / "ninja", f"-j{JOBS}", "--quiet"]
        self.make = ["make", f"-j{JOBS}", "--silent"] if shutil.which("make") else None
        self.snakemake = [args.bin.resolve() / "snakemake", "--cores", str(JOBS), "--quiet", "all"]
        self.b3sum = args.b3sum.resolve()
        self.work, self.quick, self.table = args.work.resolve(), args.quick, table
        self.all, self.rounds = args.all, 7 if args.all else 3 if args.quick else 5
        self.left = 0

    def folder(self, name):
        return self.work / name

    def up(self, folder, workflow="a4.toml", command="up", more=()):
        """A command of ours on a workflow, with the store beside it."""
        return run([self.toy, command, workflow, "store", "in", *more], folder)

    def peers(self, shards, snakemake):
        """The peers' commands and folders at a size."""
        tools = {"ninja": (graphs.ninja, self.ninja)}
        if self.make and self.all and shards < 10_000:
            tools["make"] = (graphs.make, self.make)
        if snakemake and self.all:
            tools["snakemake"] = (graphs.snakemake, self.snakemake)
        for name, (write, _) in tools.items():
            write(self.folder(name), shards)
        return {name: lambda name=name, command=command: run(command, self.folder(name)) for name, (_, command) in tools.items()}

    def nothing_to_do(self):
        """Whole graphs that are up to date, and what else is asked of them."""
        for nodes in [300, 1_000] if self.quick else [1_000, 10_000, 100_000]:
            shards = nodes // 3
            contenders = self.peers(shards, snakemake=nodes <= 1_000)
            for first in contenders.values():
                first()
            ours = self.folder("ours")
            graphs.ours(ours, shards, "call")
            made = self.up(ours)
            self.table.row(f"first run, {nodes} nodes in our process: per node", ours=str(made.per(nodes)), peak_mb=made.peak_mb)
            self.state(ours / "store", nodes)
            # Files as new as these are read again, and folders as new as theirs are listed again.
            time.sleep(2)
            self.up(ours)
            contenders["ours"] = lambda: self.up(ours)
            taken = side_by_side(self.rounds, contenders)
            self.table.row(f"nothing to do, {nodes} nodes", taken["ours"].peak_mb, **{name: str(t) for name, t in taken.items()})
            node = ["c#7"]
            asked = {
                "plan": lambda: self.up(ours, command="plan"),
                "why": lambda: self.up(ours, command="why", more=node),
            }
            taken = side_by_side(self.rounds, asked)
            self.table.row(f"{nodes} nodes planned in full, without the kept answer", taken["plan"].peak_mb, ours=str(taken["plan"]))
            self.table.row(f"`why` of one node of {nodes}", taken["why"].peak_mb, ours=str(taken["why"]))
            self.remove("ours", "ninja", "make", "snakemake")

    def state(self, store, nodes):
        """How much the store keeps beside artifacts and logs; what it knows of source files is told by file."""
        sizes = {}
        for path in store.rglob("*"):
            part = path.relative_to(store).parts[0]
            if path.is_file() and part not in ("objects", "logs", "scratch", "locks", "resume", "reserve"):
                part = "database" if part.startswith("traces") else part
                sizes[part] = sizes.get(part, 0) + path.stat().st_size
        stat = sizes.pop("stat", 0) / (nodes // 3)
        parts = ", ".join(f"{part} {size / nodes:.0f}" for part, size in sorted(sizes.items()))
        cell = f"{sum(sizes.values()) / nodes:.0f} ({parts}), and {stat:.0f} a source file"
        self.table.row(f"state, {nodes} nodes: bytes a node", ours=cell)

    def first_run(self):
        """A process per node, everything to do."""
        nodes = 300 if self.quick else 1_000
        shards = nodes // 3
        contenders = {}
        tools = {"ninja": (graphs.ninja, self.ninja)}
        if self.all:
            tools["snakemake"] = (graphs.snakemake, self.snakemake)
        if self.make and self.all:
            tools["make"] = (graphs.make, self.make)
        for name, (write, command) in tools.items():

            def first(name=name, write=write, command=command):
                self.remove(name)
                write(self.folder(name), shards)
                return run(command, self.folder(name))

            contenders[name] = first

        def ours():
            self.remove("ours")
            graphs.ours(self.folder("ours"), shards, "shell")
            return self.up(self.folder("ours"))

        contenders["ours"] = ours
        snakemake = contenders.pop("snakemake", None)
        taken = side_by_side(self.rounds, contenders)
        if snakemake:
            taken["snakemake"] = snakemake()  # once: it takes its time
        cells = {name: str(t.per(nodes)) for name, t in taken.items()}
        self.table.row(f"first run, a process per node, {nodes} nodes: per node", taken["ours"].peak_mb, **cells)
        self.remove("ours", "ninja", "make", "snakemake")

    def one_file(self):
        """One source file of many changed: what has to run?"""
        count = 1_000 if self.quick else 100_000
        folder = self.folder("books")
        graphs.books(folder, count, parts=64)
        self.up(folder, "books.toml")
        self.up(folder, "books.toml")
        number = 0

        def plan():
            nonlocal number
            number += 1
            (folder / "in/0000/123.txt").write_text(f"edited {number}\n")
            return self.up(folder, "books.toml", "plan")

        taken = side_by_side(self.rounds, {"edited": plan, "same": lambda: self.up(folder, "books.toml")})
        edited, same = taken["edited"], taken["same"]
        self.table.row(f"one source file of {count} changed: plan", edited.peak_mb, ours=str(edited))
        self.table.row(f"{count} source files: up to date again", same.peak_mb, ours=str(same))
        self.remove("books")

    def scan(self):
        """Many source files, none of them changed."""
        count = 10_000 if self.quick else 1_000_000
        folder = self.folder("files")
        graphs.books(folder, count, parts=1)
        first = run([self.toy, "scan", "in", "cache"], folder)
        run([self.toy, "scan", "in", "cache"], folder)
        taken = side_by_side(3, {"same": lambda: run([self.toy, "scan", "in", "cache"], folder)})["same"]
        self.table.row(f"{count} source files, first scan", first.peak_mb, ours=str(first))
        self.table.row(f"{count} source files unchanged", taken.peak_mb, ours=str(taken))
        self.remove("files")

    def hash(self):
        """Trees in the page cache."""
        scale = 50 if self.quick else 1 if self.all else 2
        noise = os.urandom(1 << 24)
        shapes = [("one file of 2 GB", 1, 2_000_000_000 // scale), ("2 000 files of 1 MB", 2_000 // scale, 1_000_000)]
        for what, files, size in [*shapes, ("100 000 files of 2 kB", 100_000 // scale, 2_000)]:
            folder = graphs.fresh(self.folder("hash"))
            (folder / "in").mkdir()
            for number in range(files):
                with open(folder / "in" / f"{number:06}", "wb") as out:
                    for start in range(0, size, 1 << 24):
                        out.write(noise[: size - start])
            names = folder / "names"
            names.write_text("".join(f"in/{number:06}\n" for number in range(files)))

            def ours():
                (folder / "cache").unlink(missing_ok=True)
                return run([self.toy, "scan", "in", "cache"], folder)

            others = ["xargs", self.b3sum]
            contenders = {"ours": ours, "b3sum": lambda: run(others, folder, stdin=names)}
            side_by_side(1, contenders)  # fills the page cache
            taken = side_by_side(self.rounds, contenders)
            gigabytes = files * size / 1e9
            cells = {name: f"{t}, {gigabytes / t.secs:.1f} GB/s" for name, t in taken.items()}
            self.table.row(f"hash {what}" + (f" / {scale}" if scale > 1 else ""), taken["ours"].peak_mb, **cells)
            self.remove("hash")

    def publish(self):
        """A large artifact: how much memory publishing it takes."""
        gigabytes = 1 if self.quick else 10
        folder = graphs.fresh(self.folder("publish"))
        (folder / "in").mkdir()
        size = gigabytes * 1_000_000_000
        (folder / "hole.toml").write_text(f'[workflow]\nname = "hole"\n[stages.hole]\nrun = "toy.hole"\nbytes = {size}\n')
        taken = self.up(folder, "hole.toml")
        self.table.row(f"publish an artifact of {gigabytes} GB (zeros)", taken.peak_mb, ours=str(taken))
        self.remove("publish")

    def chain(self):
        """A chain of stages, each of which copies what the one before has made: nothing can be done side by side."""
        stages = 10_000 if self.quick else 1_000_000
        folder = self.folder("chain")
        graphs.chain(folder, stages)
        plan = self.up(folder, "chain.toml", "plan")
        self.table.row(f"a chain of {stages} stages: plan", plan.peak_mb, ours=str(plan))
        made = self.up(folder, "chain.toml")
        self.table.row(f"a chain of {stages} stages: first run, per node", made.peak_mb, ours=str(made.per(stages)))
        again = self.up(folder, "chain.toml")
        self.table.row(f"a chain of {stages} stages: nothing to do", again.peak_mb, ours=str(again))
        self.remove("chain")

    def remove(self, *names):
        """Moves folders out of the way; see the head of this file."""
        for name in names:
            if self.folder(name).exists():
                self.left += 1
                self.folder(name).rename(self.work / f"left-{self.left}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", type=Path, required=True)
    parser.add_argument("--bin", type=Path, required=True, help="folder with ninja and snakemake")
    parser.add_argument("--b3sum", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where graphs and stores are made; on the disk to be measured")
    parser.add_argument("--out", type=Path, help="a file for the table, too")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true", help="more rounds, larger trees, and make and snakemake, too")
    parts = ["nothing_to_do", "first_run", "one_file", "scan", "hash", "publish"]
    more = [*parts, "chain"]  # takes a quarter of an hour, so only when it is asked for
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(more)}")
    args = parser.parse_args()
    unknown = [part for part in args.only.split(",") if part not in more]
    if unknown:
        parser.error(f"no part `{unknown[0]}`; there are {', '.join(more)}")
    args.work.mkdir(parents=True, exist_ok=True)
    args.work = Path(tempfile.mkdtemp(dir=args.work))  # what another run has left is not removed now, see above
    out = open(args.out, "w") if args.out else None
    bench = Bench(args, Table(out))
    for part in args.only.split(","):
        getattr(bench, part)()
    print("removing what was made", file=sys.stderr)
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
