#!/usr/bin/env python3
"""Compares `sure predict` with `predictions.parquet` and with transformers and peft, for every kind of answer and every method.

    python3 predict.py SURE SURE_NEURAL [FSDD]

Each workflow trains briefly. All answers to the test set are compared with the predictions of the workflow, those to some clips with the lines of
Python in the model's card. With FSDD, a copy of the Free Spoken Digit Dataset, the tasks that read it are trained by every method. Without it they
read a synthetic one, and all but the first are trained by some methods.
"""

import csv
import importlib.util
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
shared = importlib.util.spec_from_file_location("models", HERE / "models.py")
models = importlib.util.module_from_spec(shared)
shared.loader.exec_module(models)
torch = models.torch

METHODS = "finetune,bottleneck,prefix,lora,convadapter,head_only,ia3,bitfit,dora,pissa,adalora,vera"
TOLERANCE = 5e-5  # of a probability or a cosine: other batches, other rounding


def main(sure: Path, worker: Path, fsdd: Path | None) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(os.environ.get("SURE_COMPAT_SCRATCH", scratch))
        scratch.mkdir(parents=True, exist_ok=True)
        checks = Checks(sure, worker, scratch)
        if fsdd is None:
            checks.corpus("fsdd", "--takes", "12", "--more-speakers", "2")
        else:
            checks.corpora["fsdd"] = fsdd
        checks.learns = fsdd is not None
        checks.corpus("audio_snips", "--takes", "2", "--more-speakers", "2")
        checks.corpus("fluent_speech_commands", "--takes", "2", "--more-speakers", "2")
        checks.corpora["table"] = scratch / "table"
        write_table(checks.corpora["fsdd"], scratch / "table")
        (scratch / "sure.toml").write_text(checks.settings())

        def some(methods: str) -> str:
            return f"method={METHODS if fsdd else methods}"

        brief = [] if fsdd else ["train.max_steps=8", "train.eval_every=4", "train.save_every=4"]
        checks.task("keyword_spotting", "classes", f"method={METHODS}", *brief)
        if fsdd:
            checks.task("speaker", "classes", some(METHODS))
        checks.task("tagging", "tags", some("pissa"), "corpus=table", *brief)
        checks.task("speech_recognition", "text", some("finetune,prefix"))
        checks.task("phoneme_recognition", "phonemes", some("adalora"))
        checks.task("speaker", "voices", some("vera"), "score=speaker_verification", "evaluate.trials=2000", "manifest.partitions=1", *brief)
        checks.task("intent", "intents", "method=ia3", "corpus=fluent_speech_commands", "size=tiny", *brief)
        checks.task("slot_filling", "slots", "method=finetune", "corpus=audio_snips", "encoder_corpus=audio_snips", "size=tiny", "train.learning_rate=3e-3")
        return checks.verdict()


def write_table(fsdd: Path, folder: Path) -> None:
    """A table of the same recordings with any number of labels."""
    folder.mkdir(exist_ok=True)
    recordings = folder / "recordings"
    if not recordings.exists():
        recordings.symlink_to((fsdd / "recordings").resolve())
    names = "zero one two three four five six seven eight nine".split()
    with open(folder / "table.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "split", "speaker", "label", "text"])
        for path in sorted(recordings.glob("*.wav")):
            name = re.fullmatch(r"(\d)_(.+)_(\d+)", path.stem)
            if name is None:
                continue  # something else that a copy contains
            digit, speaker, split = int(name[1]), name[2], {0: "test", 1: "dev"}.get(int(name[3]) % 5, "train")
            labels = [label for label, holds in [("even", digit % 2 == 0), ("large", digit > 4), ("prime", digit in (2, 3, 5, 7))] if holds]
            out.writerow([f"recordings/{path.name}", split, speaker, json.dumps(labels), names[digit]])


class Checks(models.Checks):
    learns = False  # true if the recordings are enough to learn texts from

    def settings(self) -> str:
        return "[corpora]\n" + "".join(f'{name} = "{folder}"\n' for name, folder in self.corpora.items())

    def task(self, workflow: str, kind: str, *more: str) -> None:
        """Trains a workflow, and compares the answers of each model."""
        sets = {"corpus": "fsdd", "encoder_corpus": "fsdd", "encoder_epochs": "3", "train.max_steps": "30"}
        sets.update({"train.eval_every": "15", "train.save_every": "15"}, **dict(one.split("=", 1) for one in more))
        self.run("run", workflow, "-q", *(part for name, value in sets.items() for part in ("--set", f"{name}={value}")))
        results = self.scratch / "results" / workflow
        texts = 0
        test = [Path(part) / "test.parquet" for part in self.path("shards")]
        for folder in sorted((results / "models").iterdir()):
            if folder.name.startswith("encoder"):
                continue
            out = self.scratch / "answers.jsonl"
            voice = []
            rows = models.pyarrow.parquet.read_table(results / "predictions" / folder.name / "predictions.parquet").to_pylist()
            if kind == "voices":
                enrolled = rows[0]["enrol_id"]
                rows = [row for row in rows if row["enrol_id"] == enrolled]
                voice = ["--similar-to", self.recording(enrolled)]
            self.run("predict", folder, *test, "--out", out, *voice)
            answers = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
            name = f"{workflow}, {kind}, {folder.name}"
            of_workflow(self, name, kind, answers, rows)
            texts = max(texts, len({row.get("hypothesis") for row in rows}))
            of_python(self, name, kind, answers, folder.resolve(), results / "models" / "encoder scratch", rows)
        if kind in ("text", "phonemes", "slots"):
            self.say(f"{workflow}, {kind}", f"at most {texts} different answers by one method", failed=self.learns and texts < 2)

    def recording(self, identity: str) -> Path:
        return next(iter(self.corpora["fsdd"].rglob(f"{Path(identity).name}.wav")))


def of_workflow(checks: Checks, name: str, kind: str, answers: dict, rows: list) -> None:
    """The answers are those that the workflow found."""
    worst, wrong = 0.0, 0
    for row in rows:
        answer = answers[row["test_id" if kind == "voices" else "id"]]
        if kind == "classes":
            wrong += answer["prediction"] != row["prediction_text"]
            worst = max(worst, abs(answer[f"p_{row['label_text']}"] - math.exp(-row["loss"])))
        elif kind == "tags":
            wrong += answer["labels"] != row["predictions"]
            labels = [column for column in answer if column.startswith("p_")]
            worst = max(worst, *(abs(answer[label] - score) for label, score in zip(labels, row["scores"], strict=True)))
        elif kind == "intents":
            wrong += any(answer[slot["slot"]] != slot["prediction"] for slot in row["slots"])
            if all(slot["label"] == slot["prediction"] for slot in row["slots"]):
                p = math.prod(answer[f"p_{slot['slot']}"] for slot in row["slots"])
                worst = max(worst, abs(p - math.exp(-row["loss"])))
        elif kind == "voices":
            worst = max(worst, abs(answer["similarity"] - row["score"]))
        elif kind == "slots":
            wrong += [answer["text"], slots_of(answer)] != [without_markers(row["hypothesis"]), slots_in(row["hypothesis"])]
        else:
            wrong += answer["text"] != row["hypothesis"]
    failed = wrong > 0 or worst > TOLERANCE or not rows
    checks.say(f"{name}, workflow", f"{wrong} of {len(rows)} answers differ, largest difference {worst:.1e}", failed=failed)


def of_python(checks: Checks, name: str, kind: str, answers: dict, folder: Path, encoder: Path, rows: list) -> None:
    """The answers to some clips are those of the lines of Python in the card."""
    clips = checks.clips()
    names = {"encoder": str(encoder), "adapter": str(folder), "folder": str(folder), "print": lambda *_: None}
    ids = sorted(clips)[:: max(1, len(clips) // models.CLIPS)]
    first = clips[rows[0]["enrol_id"]] if kind == "voices" else clips[ids[0]]
    card = (folder / "README.md").read_text()
    if "```python" not in card:
        checks.say(f"{name}, Python", "the card has no lines of Python")
        return
    scope = {**names, "samples": first}
    exec(card.split("```python\n")[1].split("```")[0], scope)  # noqa: S102: the lines that people are told to run
    model, processor = scope["model"], scope["processor"]

    def output(samples):
        with torch.no_grad():
            return model(**models.prepared(model, processor, samples))

    voice = torch.nn.functional.normalize(output(first).embeddings, dim=1) if kind == "voices" else None
    worst, wrong = 0.0, 0
    for clip in ids:
        answer, found = answers[clip], output(clips[clip])
        if kind in ("classes", "tags"):
            p = found.logits[0].softmax(-1) if kind == "classes" else found.logits[0].sigmoid()
            worst = max(worst, *(abs(answer[f"p_{model.config.id2label[at]}"] - value) for at, value in enumerate(p.tolist())))
        elif kind == "intents":
            classes = {}
            for at, slot_and_label in model.config.id2label.items():
                slot, label = slot_and_label.split("=", 1)
                classes.setdefault(slot, []).append((at, label))
            for slot, own in classes.items():
                p, label = max(zip(found.logits[0, [at for at, _ in own]].softmax(-1).tolist(), (label for _, label in own), strict=True))
                wrong += answer[slot] != label
                worst = max(worst, abs(answer[f"p_{slot}"] - p))
        elif kind == "voices":
            cosine = (voice @ torch.nn.functional.normalize(found.embeddings, dim=1).T).item()
            worst = max(worst, abs(answer["similarity"] - cosine))
        else:
            text = processor.batch_decode(found.logits.argmax(-1))[0]
            if kind == "slots":
                wrong += [answer["text"], slots_of(answer)] != [without_markers(text), slots_in(text)]
            elif kind == "text":
                wrong += text.split() != answer["text"].split()
            else:
                wrong += text.replace(" ", "") != answer["text"].replace(" ", "")
    failed = wrong > 0 or worst > TOLERANCE
    checks.say(f"{name}, Python", f"{wrong} of {len(ids)} answers differ, largest difference {worst:.1e}", failed=failed)


def without_markers(text: str) -> str:
    return " ".join(word for word in text.split() if word[:2] not in ("B-", "E-"))


def slots_in(text: str) -> list:
    """Slots between their markers; one that nothing closes is none."""
    found, words = [], text.split()
    while words:
        word = words.pop(0)
        if word.startswith("B-") and f"E-{word[2:]}" in words[1:]:
            end = words.index(f"E-{word[2:]}", 1)
            found.append((word[2:], without_markers(" ".join(words[:end]))))
            words = words[end + 1 :]
    return found


def slots_of(answer: dict) -> list:
    return [(slot["slot"], slot["value"]) for slot in answer["slots"]]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else None))
