"""The same graph for every tool: shards of three chained copies of a small file, and one merge of all."""

import os
import shutil

STEPS = ["a", "b", "c"]


def fresh(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_inputs(folder, shards):
    """One small file a shard, no two alike."""
    (folder / "in").mkdir()
    for shard in range(shards):
        (folder / "in" / f"{shard:05}.txt").write_text(f"shard {shard}\n")


def ninja(folder, shards):
    """Writes inputs and `build.ninja`."""
    write_inputs(fresh(folder), shards)
    with open(folder / "build.ninja", "w") as out:
        out.write("rule copy\n  command = cp $in $out\n")
        out.write("rule merge\n  command = xargs cat < $out.list > $out\n  rspfile = $out.list\n  rspfile_content = $in_newline\n")
        for shard in range(shards):
            for step, before in zip(STEPS, ["in"] + STEPS):
                out.write(f"build {step}/{shard:05}.txt: copy {before}/{shard:05}.txt\n")
        out.write("build all.txt: merge " + " ".join(f"c/{shard:05}.txt" for shard in range(shards)) + "\n")


def make(folder, shards):
    """Writes inputs and `Makefile`."""
    write_inputs(fresh(folder), shards)
    for step in STEPS:
        (folder / step).mkdir()
    last = " ".join(f"c/{shard:05}.txt" for shard in range(shards))
    with open(folder / "Makefile", "w") as out:
        out.write(f"all.txt: {last}\n\tfind c -type f | sort | xargs cat > $@\n")
        for shard in range(shards):
            for step, before in zip(STEPS, ["in"] + STEPS):
                out.write(f"{step}/{shard:05}.txt: {before}/{shard:05}.txt\n\tcp $< $@\n")


def snakemake(folder, shards):
    """Writes inputs and `Snakefile`."""
    write_inputs(fresh(folder), shards)
    with open(folder / "Snakefile", "w") as out:
        out.write(f'rule merge:\n    input: expand("c/{{n:05}}.txt", n=range({shards}))\n    output: "all.txt"\n')
        out.write('    shell: "find c -type f | sort | xargs cat > {output}"\n')
        for step, before in zip(STEPS, ["in"] + STEPS):
            out.write(f'rule {step}:\n    input: "{before}/{{n}}.txt"\n    output: "{step}/{{n}}.txt"\n')
            out.write('    shell: "cp {input} {output}"\n')


def ours(folder, shards, copier):
    """Writes inputs and `a4.toml`; `copier` is `shell` (a process a node, as the others) or `call` (in process)."""
    write_inputs(fresh(folder), shards)
    text = f'[workflow]\nname = "a4"\n[stages.shelf]\nrun = "toy.shelf"\npartitions = {shards}\n'
    for step, before in zip(STEPS, ["shelf"] + STEPS):
        text += f'[stages.{step}]\nrun = "toy.copy"\neach = "shelf"\ninputs.text = "{before}"\n'
        text += f'to = "{step}.txt"\nby = "{copier}"\n'
    text += '[stages.merge]\nrun = "toy.join"\ninputs.texts = "c"\n'
    (folder / "a4.toml").write_text(text)


def books(folder, count, parts):
    """Writes many files in folders of a thousand, and a workflow that counts their words part by part."""
    fresh(folder)
    for number in range(count):
        if number % 1000 == 0:
            parent = f"{folder}/in/{number // 1000:04}"
            os.makedirs(parent)
        file = os.open(f"{parent}/{number % 1000:03}.txt", os.O_WRONLY | os.O_CREAT)  # a million of them: no time for more
        os.write(file, b"book %d\n" % number)
        os.close(file)
    (folder / "books.toml").write_text(
        f'[workflow]\nname = "books"\n[stages.list]\nrun = "toy.list"\npartitions = {parts}\n'
        '[stages.count]\nrun = "toy.count"\neach = "list"\ninputs.books = "list"\nmin_length = 1\n'
        '[stages.sum]\nrun = "toy.join"\ninputs.texts = "count/count.txt"\n'
    )


def chain(folder, stages):
    """Writes a workflow in which every stage copies the file of the one before it, under a name of its own."""
    (fresh(folder) / "in").mkdir()
    with open(folder / "chain.toml", "w") as out:
        out.write('[workflow]\nname = "chain"\n[stages.s0]\nrun = "toy.text"\ntext = ""\n')
        for stage in range(1, stages):
            out.write(f'[stages.s{stage}]\nrun = "toy.copy"\ninputs.text = "s{stage - 1}"\nto = "f{stage}"\nby = "call"\n')
