"""Reads what `sure prepare` writes as people do in Python, and compares every value and sample.

    python tests/compat/check.py SURE

`SURE` is the executable. Synthetic corpora are written, prepared as WAV and as FLAC, and read with datasets, pandas,
polars, duckdb, pyarrow and numpy. The program prints a line for each check and fails at the first difference.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import duckdb
import numpy
import pandas
import polars
import pyarrow.parquet
import soundfile

PROTOCOLS = {"l2_arctic": "l2arctic-annotated"}  # the one that has words and phones
# Corpus, options of `sure synth`, whether it has classes, and columns that must say something.
CORPORA = [
    ("speech_commands", ["--speakers", "4", "--takes", "1"], True, ["keyword", "speaker"]),
    ("fluent_speech_commands", ["--takes", "1", "--more-speakers", "0"], True, ["transcript", "slots"]),
    ("librispeech", ["--takes", "1", "--more-speakers", "0"], False, ["transcript", "tags"]),
    ("l2_arctic", ["--takes", "1", "--more-speakers", "0"], False, ["words", "phones"]),
    ("audio_snips", ["--takes", "1", "--more-speakers", "0"], True, ["words", "slots"]),
    ("fleurs", ["--takes", "1", "--more-speakers", "0"], False, ["normalised"]),
]


def main(sure):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for corpus, options, has_classes, wanted in CORPORA:
            root = scratch / corpus
            run(sure, "synth", corpus, root, *options)
            tables = {}
            for kind in ["wav", "flac"]:
                out = scratch / f"{corpus}-{kind}"
                run(sure, "prepare", corpus, "--root", root, "--out", out, "--format", kind, "--shards", "3", "-q",
                    "--max-rejects", "0.5", *(["--protocol", PROTOCOLS[corpus]] if corpus in PROTOCOLS else []))
                tables[kind] = check(out, has_classes, wanted, kind)
            sources(root, tables)
            print(f"{corpus}: {sum(map(len, tables['wav'].values()))} rows are the same everywhere, as WAV and as FLAC")


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def check(out, has_classes, wanted, kind):
    """Reads a folder in every way; gives its rows by split."""
    files = {split: sorted(map(str, out.glob(f"{split}-*.parquet"))) for split in ["train", "dev", "test"]}
    files = {split: paths for split, paths in files.items() if paths}
    assert "train" in files, f"{out}: {files}"
    whole = datasets.load_dataset(str(out), cache_dir=str(out) + "-cache")
    whole = {{"validation": "dev"}.get(split, split): loaded for split, loaded in whole.items()}  # Hugging Face's name of dev
    assert list(whole) == list(files), list(whole)
    # The folder is one table for readers that take folders.
    assert len(pandas.read_parquet(out)) == polars.read_parquet(out).height == sum(len(loaded) for loaded in whole.values())
    by_files = datasets.load_dataset("parquet", data_files=files, cache_dir=str(out) + "-cache2")
    tables = {}
    for split, paths in files.items():
        table = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in paths])
        rows = table.to_pylist()
        tables[split] = rows
        layout(paths)
        clips(paths, kind)
        for loaded in [whole[split], by_files[split]]:
            hugging_face(loaded, rows, has_classes)
        streamed = datasets.load_dataset("parquet", data_files=files, split=split, streaming=True)
        streamed = streamed.cast_column("audio", datasets.Audio(decode=False))
        assert [row["id"] for row in streamed] == [row["id"] for row in rows]
        others(paths, rows)
        for row in rows:
            samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
            assert (rate, samples.ndim, len(samples)) == (row["sample_rate"], 1, row["num_samples"]), row["id"]
            assert row["audio"]["path"].endswith(f".{kind}"), row["audio"]["path"]
    for column in wanted:
        assert any(row[column] for rows in tables.values() for row in rows), f"{out}: nothing in {column}"
    about = Path(f"{out}.about")
    statistics = json.loads((about / "statistics.json").read_text())
    counted = {split: report["rows"] for split, report in statistics["shards"]["splits"].items() if report["rows"]}
    assert counted == {split: len(rows) for split, rows in tables.items()}, counted
    assert "<svg" in (about / "index.html").read_text()
    pyarrow.parquet.read_table(about / "rejects.parquet")
    return tables


def hugging_face(loaded, rows, has_classes):
    features = loaded.features
    assert features["audio"].sampling_rate == 16_000 and isinstance(features["audio"], datasets.Audio), features["audio"]
    assert isinstance(features["label"], datasets.ClassLabel) == has_classes, features["label"]
    if has_classes:
        for row in rows:
            assert row["label"] is None or features["label"].int2str(row["label"]) == row["keyword"]
    plain = loaded.cast_column("audio", datasets.Audio(decode=False))
    assert plain.to_list() == rows


def others(paths, rows):
    assert polars.read_parquet(paths).to_dicts() == rows
    relation = duckdb.connect().read_parquet(paths)
    names = [column[0] for column in relation.description]
    found = [dict(zip(names, row)) for row in relation.fetchall()]
    assert found == rows


def layout(paths):
    """Small row groups, a page index, audio as it is and the rest compressed."""
    for path in paths:
        file = pyarrow.parquet.ParquetFile(path)
        for group in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(group)
            assert group.num_rows <= 500, group.num_rows
            for at in range(group.num_columns):
                column = group.column(at)
                is_audio = column.path_in_schema.startswith("audio.")
                assert column.compression == ("UNCOMPRESSED" if is_audio else "ZSTD"), column.path_in_schema
                assert not (is_audio and column.has_dictionary_page), column.path_in_schema
                assert column.has_offset_index, column.path_in_schema


def clips(paths, kind):
    """One clip by memory map."""
    for path in paths:
        record = [("offset", "<u8"), ("len", "<u4"), ("samples", "<u4"), ("hash", "<u8")]
        folder = Path(f"{Path(path).parent}.about/clips")
        index = numpy.fromfile(folder / Path(path).with_suffix(".clips").name, offset=16, dtype=record)
        shard = numpy.memmap(path, mode="r")
        rows = pyarrow.parquet.read_table(path, columns=["audio", "num_samples"]).to_pylist()
        assert len(index) == len(rows)
        for clip, row in zip(index, rows):
            assert shard[clip["offset"]:][:clip["len"]].tobytes() == row["audio"]["bytes"]
            assert clip["samples"] == row["num_samples"]


def sources(root, tables):
    """Where nothing was resampled, samples are those of the recording; WAV and FLAC hold the same."""
    compared = 0
    for split, rows in tables["wav"].items():
        for row, packed in zip(rows, tables["flac"][split]):
            decode = lambda of: soundfile.read(io.BytesIO(of["audio"]["bytes"]), dtype="int16")[0]
            assert row["id"] == packed["id"] and numpy.array_equal(decode(row), decode(packed)), row["id"]
            samples, rate = soundfile.read(root / row["source_path"], dtype="float64")
            if rate != row["sample_rate"]:
                continue
            steps = numpy.copysign(numpy.floor(numpy.abs(samples) * 32768 + 0.5), samples)  # floats: halves away from zero
            assert numpy.array_equal(numpy.clip(steps, -32768, 32767), decode(row)), row["id"]
            compared += 1
    print(f"  {compared} clips have the samples of their recordings")


if __name__ == "__main__":
    main(*sys.argv[1:])
