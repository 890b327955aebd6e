"""Measures how fast recordings become 16 kHz Parquet: `sure prepare` beside what people use. See audio.sh.

One core: seconds of audio per second of processor time (user and system, with all children), so that other work on the machine does
not count. All cores: per second of the clock. Of each figure the best of several rounds, the tools taking turns.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

CLIP_SECS = 5.0
COMPRESSED = [("mp3", "libmp3lame"), ("mp4", "aac")]
NAMES = {"wav48": "WAV, 48 kHz", "flac48": "FLAC, 48 kHz", "flac16": "FLAC, 16 kHz", "mp3": "MP3, 48 kHz", "mp4": "MP4 (AAC), 48 kHz"}


def make_corpus(args, folder):
    """Clips of about five seconds: digits of FSDD one after the other if there is FSDD, else words of the synthesiser."""
    sources = sorted((Path(args.fsdd) / "recordings").glob("*.wav")) if args.fsdd else []
    synthetic = folder / "synthetic"
    if not synthetic.exists():
        subprocess.run([args.sure, "synth", "speech_commands", str(synthetic)], check=True, stdout=subprocess.DEVNULL)
    words = sorted(path for path in synthetic.glob("*/*.wav") if not path.parent.name.startswith("_"))
    rng = np.random.default_rng(1314)
    kinds = ["wav48", "flac48", "flac16"] + (["mp3", "mp4"] if shutil.which("ffmpeg") else [])
    for kind in kinds:
        (folder / kind / "clips").mkdir(parents=True, exist_ok=True)
    rows, total, number = [], 0.0, 0
    while total < args.minutes * 60:
        pool = sources if sources and number % 2 else words
        parts, secs, rate = [], 0.0, None
        while secs < CLIP_SECS:
            samples, rate = soundfile.read(pool[rng.integers(len(pool))], dtype="float32")
            parts.append(samples)
            secs += len(samples) / rate
        clip = np.concatenate(parts)
        wide = soxr.resample(clip, rate, 48_000, "VHQ")
        wide = np.clip(wide + rng.normal(0, 1e-3, len(wide)), -1, 1)
        name = f"{number:05}"
        soundfile.write(folder / f"wav48/clips/{name}.wav", wide, 48_000, "PCM_16")
        soundfile.write(folder / f"flac48/clips/{name}.flac", wide, 48_000, "PCM_16")
        soundfile.write(folder / f"flac16/clips/{name}.flac", soxr.resample(wide, 48_000, 16_000), 16_000, "PCM_16")
        rows.append(name)
        total += len(wide) / 48_000
        number += 1

    def compress(name):
        inputs = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", str(folder / f"wav48/clips/{name}.wav")]
        outputs = [["-c:a", codec, "-b:a", "96k", str(folder / f"{kind}/clips/{name}.{kind}")] for kind, codec in COMPRESSED]
        subprocess.run(inputs + sum(outputs, []), check=True)

    if "mp3" in kinds:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compress, rows))
    for kind in kinds:
        extension = kind.rstrip("0123468") if kind.startswith(("wav", "flac")) else kind
        with open(folder / kind / "table.csv", "w") as table:
            table.write("path,split\n")
            table.writelines(f"clips/{name}.{extension},train\n" for name in rows)
    (folder / "seconds").write_text(str(total))


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(command, **more):
    """Clock and processor seconds of a program, its children included, and its largest memory in MB."""
    begun, cpu = time.perf_counter(), cpu_of_children()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command}: {output.decode(errors='replace')[-2000:]}")
    return time.perf_counter() - begun, cpu_of_children() - cpu, usage.ru_maxrss / 1024, output


def sure(args, corpus, scratch, form, jobs):
    """Into a new folder each time. Old ones stay to the end: ext4 passes over what was deleted in the last minutes, inode by inode,
    so that deleting between runs would be a good part of what is measured."""
    out = tempfile.mkdtemp(prefix="sure-", dir=scratch)
    command = [args.sure, "prepare", "table", "--root", corpus, "--out", out, "--quiet", "--format", form, "--jobs", jobs]
    secs, cpu, peak, _ = timed(command)
    return secs, cpu, peak


# The programs that are compared, run as `audio.py --child NAME CORPUS OUT`, so that their start is not counted either.


def child_soundfile(corpus, out, form="WAV"):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((corpus / "clips").iterdir())
    schema = pa.schema([("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])

    def once():
        writer, rows = pq.ParquetWriter(out, schema, compression="none", use_dictionary=False), []
        for path in files:
            rows.append(clip(path))
            if len(rows) == 100 or path is files[-1]:
                writer.write_table(pa.table({"audio": pa.array(rows, schema.field("audio").type)}, schema))
                rows = []
        writer.close()

    def clip(path):
        samples, rate = soundfile.read(path, dtype="float32")
        if samples.ndim > 1:
            samples = samples.mean(axis=1)
        if rate != 16_000:
            samples = soxr.resample(samples, rate, 16_000)
        held = io.BytesIO()
        soundfile.write(held, samples, 16_000, format=form, subtype="PCM_16")
        return {"bytes": held.getvalue(), "path": path.name}

    best = float("inf")
    for _ in range(2):  # the first loads libraries and fills caches
        begun = time.process_time()
        once()
        best = min(best, time.process_time() - begun)
    print(best)


def child_librosa(corpus, out):
    import datasets
    import librosa

    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"path": [str(path) for path in sorted((corpus / "clips").iterdir())]})

    def load(row):
        return {"audio": librosa.load(row["path"], sr=16_000)[0]}

    librosa.load(data[0]["path"], sr=16_000)  # compiles what it compiles at first use
    begun = time.perf_counter()
    data = data.map(load, num_proc=os.cpu_count(), keep_in_memory=False, load_from_cache_file=False)
    data.to_parquet(out)
    print(time.perf_counter() - begun)


def child_join(corpus, out):
    files = sorted((corpus / "clips").iterdir())
    rate = soundfile.info(files[0]).samplerate
    soundfile.write(out, np.concatenate([soundfile.read(path, dtype="int16")[0] for path in files]), rate, "PCM_16")


def child(name, corpus, out):
    secs, _, _, output = timed([sys.executable, __file__, "--child", name, corpus, out])
    return float(output.decode().split()[-1])


def programs(corpus, total, few, few_secs, scratch):
    """ffmpeg and sox, one process for each file of a few, and once for all of the corpus in one long file."""
    found = {}
    files = sorted((corpus / "clips").iterdir())
    if files[0].suffix in (".wav", ".flac"):
        # In a process of its own: the peak memory of what is started from here would count what lies in memory here.
        long = scratch / f"long{files[0].suffix}"
        subprocess.run([sys.executable, __file__, "--child", "join", corpus, long], check=True)
    else:
        long, listing = scratch / f"long{files[0].suffix}", scratch / "files.txt"
        listing.write_text("".join(f"file '{path}'\n" for path in files))
        join = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", long]
        subprocess.run(join, check=True)
    out = scratch / "out.wav"
    tools = {
        "ffmpeg": lambda path: ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", path, "-ac", "1", "-ar", "16000", out],
        "sox": lambda path: ["sox", path, "-b", "16", out, "remix", "-", "rate", "16000"],
    }
    for tool, command in tools.items():
        if not shutil.which(tool) or (tool == "sox" and files[0].suffix in (".mp4", ".mp3")):
            continue
        cpu = sum(timed(command(path))[1] for path in files[:few])
        found[f"{tool}, a process per file"] = few_secs / cpu
        found[f"{tool}, one long file"] = total / min(timed(command(long))[1] for _ in range(2))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sure")
    parser.add_argument("--fsdd", default=os.environ.get("SURE_FSDD"))
    parser.add_argument("--work", type=Path, default=Path("target/bench-audio"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--formats", default="wav48,flac48,flac16,mp3,mp4")
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        name, corpus, out = args.child
        children = {
            "wav": child_soundfile,
            "flac": lambda corpus, out: child_soundfile(corpus, out, "FLAC"),
            "librosa": child_librosa,
            "join": child_join,
        }
        children[name](Path(corpus), out)
        return

    work = args.work.resolve()
    shutil.rmtree(work / "out", ignore_errors=True)
    corpora = work / f"corpus-{args.minutes:g}"
    if not (corpora / "seconds").exists():
        print("making the corpus", file=sys.stderr)
        make_corpus(args, corpora)
    total, cores = float((corpora / "seconds").read_text()), os.cpu_count()
    print(f"{total:.0f} s of audio in clips of about {CLIP_SECS:.0f} s; {cores} cores, load {os.getloadavg()[0]:.1f}.")
    print("Seconds of audio a second: of processor time; of the clock where all cores work.\n")
    print("| input | sure to WAV, FLAC | soundfile + soxr | ratio | sure, all cores | datasets.map(librosa) | ratio | second core adds "
          "| peak memory | ffmpeg, long file, per file | sox, long file, per file |")
    print("| --- " * 11 + "|")
    for kind in args.formats.split(","):
        print(row(args, corpora, kind, total, work / "out" / kind), flush=True)
    shutil.rmtree(work / "out")


def row(args, corpora, kind, total, scratch):
    """The line of the table for one kind of input."""
    corpus, cores = corpora / kind, os.cpu_count()
    scratch.mkdir(parents=True, exist_ok=True)
    best, peak = {}, 0.0

    def note(name, value):
        best[name] = max(best.get(name, 0.0), value)

    for _ in range(args.rounds):
        for form in ("wav", "flac"):
            secs, cpu, used = sure(args, corpus, scratch, form, 1)
            peak = max(peak, used)
            note(f"sure {form}", total / cpu)
            if form == "wav":
                note("sure one", total / secs)
            if kind != "mp4":  # which libsndfile does not read
                note(f"python {form}", total / child(form, corpus, scratch / "python.parquet"))
        secs, cpu, used = sure(args, corpus, scratch, "wav", cores)
        peak = max(peak, used)
        note("sure all", total / secs)
    note("librosa", total / child("librosa", corpus, scratch / "librosa.parquet"))
    few = 40
    few_secs = sum(soundfile.info(path).duration for path in sorted((corpora / "wav48" / "clips").iterdir())[:few])
    others = programs(corpus, total, few, few_secs, scratch)

    def pair(tool):
        found = [others.get(f"{tool}, one long file"), others.get(f"{tool}, a process per file")]
        return ", ".join("-" if speed is None else f"{speed:,.0f}" for speed in found)

    python = [f"{best[f'python {form}']:,.0f}" if f"python {form}" in best else "-" for form in ("wav", "flac")]
    ratio = [f"{best[f'sure {form}'] / best[f'python {form}']:.2f}" if f"python {form}" in best else "-" for form in ("wav", "flac")]
    return (
        f"| {NAMES[kind]} | {best['sure wav']:,.0f}, {best['sure flac']:,.0f} | {', '.join(python)} | {', '.join(ratio)} "
        f"| {best['sure all']:,.0f} | {best['librosa']:,.0f} | {best['sure all'] / best['librosa']:.1f} "
        f"| {best['sure all'] / best['sure one'] - 1:.2f} | {peak:.0f} MB | {pair('ffmpeg')} | {pair('sox')} |"
    )


if __name__ == "__main__":
    main()
