#!/usr/bin/env python3
"""Loads what `sure run` leaves in transformers and peft, unchanged, and compares the answers clip by clip.

    python3 models.py SURE SURE_NEURAL

Writes small checkpoints of every family of encoders with transformers, trains every method and head on them and on encoders with random
weights (`models.toml`), and loads each folder: adapters and fine-tuned models by the lines of Python in their own model cards, checkpoints
also by `pipeline`, adapters again after `save_pretrained` of peft, and merged folders. Losses, classes and texts are those of
`predictions.parquet`. Fails at the end if one differs.
Needs torch, transformers, peft and pyarrow (tested: 2.11.0, 5.23.0, 0.21.2, 26.0). Exit code 3: they are not installed.
"""

import contextlib
import csv
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import wave
from pathlib import Path
from types import SimpleNamespace

# A file next to this one is called like the library: the folder must not come first.
HERE = Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

try:
    import numpy
    import pyarrow.parquet
    import torch
    import transformers
    from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, VeraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, pipeline
except ImportError as missing:
    print(f"not installed: {missing}", file=sys.stderr)
    sys.exit(3)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# Of a loss in nats; differences come from rounding alone. That of a text is a sum over its frames.
TOLERANCE = {"ctc": 2e-5, "xvector": 2e-5}  # the angular loss of x-vectors multiplies cosines, and their rounding, by 30
USUAL_TOLERANCE = 5e-6
CLIPS = 12  # of each model
METHODS = "finetune,head_only,lora,rslora,dora,pissa,adalora,vera,ia3,ia3_in_one_layer,bitfit,bottleneck,prefix,convadapter"
MERGED = {"lora", "lora_everywhere", "rslora", "dora", "pissa", "adalora", "vera", "ia3", "ia3_in_one_layer", "bitfit"}

# Small encoders of each family: configuration class, model class, style of convolutions.
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_dim=[16, 16, 16, 16], mask_time_length=3,
             conv_kernel=[20, 8, 8, 4], conv_stride=[10, 4, 4, 2], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4)
LARGE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
# Encoders over feature frames name their sizes, and the layers that a pattern can name, otherwise.
FRAMES = {
    "whisper": dict(d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=1, decoder_attention_heads=2,
                    decoder_ffn_dim=8, num_mel_bins=20, max_source_positions=150, vocab_size=12, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                    decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None),
    "w2v_bert": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, feature_projection_input_dim=40, layerdrop=0.0,
                     conv_depthwise_kernel_size=5, left_max_position_embeddings=6, right_max_position_embeddings=3, mask_time_length=3),
}
FAMILIES = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2ForCTC, {"vocab_size": 7}),
    "hubert": (transformers.HubertConfig, transformers.HubertModel, {}),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel, LARGE),
    "unispeech": (transformers.UniSpeechConfig, transformers.UniSpeechModel, LARGE),
    "unispeech_sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatForXVector, {"tdnn_dim": [8, 8], "tdnn_kernel": [3, 1], "tdnn_dilation": [1, 1]}),
    "whisper": (transformers.WhisperConfig, transformers.WhisperForConditionalGeneration, {}),
    "w2v_bert": (transformers.Wav2Vec2BertConfig, transformers.Wav2Vec2BertModel, {}),
    "data2vec": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel, {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}),
}


def main(sure: Path, worker: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(os.environ.get("SURE_COMPAT_SCRATCH", scratch))
        scratch.mkdir(parents=True, exist_ok=True)
        checks = Checks(sure, worker, scratch)
        checks.corpus("speech_commands", "--speakers", "8", "--takes", "1")
        checks.corpus("fluent_speech_commands")
        checks.corpus("esd", "--takes", "1", "--more-speakers", "0")
        checks.corpus("table", "--takes", "2")
        write_tags(scratch / "table")
        for name, (config, model, options) in FAMILIES.items():
            write_encoder(scratch / name, config, model, options)
        write_recogniser(scratch / "recogniser")
        write_classifier(scratch / "classifier")
        write_languages(scratch / "languages")
        (scratch / "sure.toml").write_text(checks.settings())
        checks.all("large", "mixed", METHODS)
        checks.all("large", "ctc", "finetune,head_only,lora,dora,pissa,adalora,vera,ia3,bitfit,convadapter,prefix")
        checks.all("base", "class", "finetune,lora,bottleneck,prefix")
        checks.all("base", "ctc", "finetune,ia3")
        checks.all("large", "xvector", "finetune,lora,head_only", corpus="esd")
        checks.all("base", "intent", "finetune,dora", corpus="fluent_speech_commands")
        checks.all("base", "tags", "finetune,lora,bottleneck", corpus="table")
        families = ",".join(name for name in FAMILIES if name not in FRAMES)
        checks.all(families, "mixed", "finetune,lora,adalora")
        checks.all(families, "ctc", "finetune,lora")
        frames = ",".join(FRAMES)
        checks.all(frames, "mixed", "finetune,head_only,lora_everywhere,dora,pissa,adalora,vera,ia3,bitfit,bottleneck,prefix,convadapter")
        checks.all(frames, "class", "finetune,lora_everywhere,ia3_in_one_layer")
        checks.all(frames, "ctc", "finetune,lora_everywhere")
        checks.written_by_peft()
        checks.own_heads()
        checks.languages()
        return checks.verdict()


def write_tags(folder: Path) -> None:
    """Gives each clip of a table none to two of three labels."""
    sets, splits = ["low", "low;long", "long;noisy", "noisy", "[]"], ["train", "train", "dev", "test"]
    clips = sorted(path.relative_to(folder) for path in (folder / "clips").glob("a *.wav") if path.stat().st_size > 0)
    with open(folder / "table.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "split", "label"])
        out.writerows([clip, splits[at % len(splits)], sets[at % len(sets)]] for at, clip in enumerate(clips))


def write_encoder(folder: Path, config, model, options: dict) -> None:
    torch.manual_seed(len(folder.name))
    folder.mkdir(exist_ok=True)
    sizes = FRAMES.get(folder.name) or {**SIZES, **options}
    if config is transformers.Data2VecAudioConfig:
        sizes["layerdrop"] = 0.0
    made = model(config(**sizes))
    for parameter in made.parameters():  # norms and biases too: a part that is left out shows
        parameter.data += 0.1 * torch.randn_like(parameter)
    made.save_pretrained(folder)
    if folder.name == "whisper":
        transformers.WhisperFeatureExtractor(feature_size=sizes["num_mel_bins"], chunk_length=3).save_pretrained(folder)
        return
    if folder.name == "w2v_bert":
        bands = sizes["feature_projection_input_dim"] // 2
        transformers.SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands).save_pretrained(folder)
        return
    mask = sizes.get("feat_extract_norm") == "layer"
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask).save_pretrained(folder)


def write_recogniser(folder: Path) -> None:
    """A checkpoint with a head of capital letters, as those published for English have."""
    torch.manual_seed(7)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    made = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SIZES, **LARGE, vocab_size=len(tokens), pad_token_id=0))
    made.lm_head.weight.data *= 30  # as sure of its answers as a trained one
    made.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(tokens)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


def write_classifier(folder: Path) -> None:
    torch.manual_seed(8)
    words = "bed bird cat dog down eight five four go happy house left marvin nine no off on one right seven sheila six stop three tree two up wow yes zero".split()
    config = transformers.HubertConfig(**SIZES, classifier_proj_size=24, num_labels=len(words))
    config.id2label, config.label2id = dict(enumerate(words)), {word: at for at, word in enumerate(words)}
    transformers.HubertForSequenceClassification(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)


def write_languages(folder: Path) -> None:
    """A checkpoint of two languages, as those of MMS are: an adapter and a head for each."""
    torch.manual_seed(9)
    tokens = {"eng": ["<pad>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"], "fra": ["<pad>", "<unk>", "|", *"zyxwvutsrqponmlkjihgfedcba"]}
    config = transformers.Wav2Vec2Config(**SIZES, **LARGE, adapter_attn_dim=8, vocab_size=len(tokens["eng"]), pad_token_id=0)
    for language, own in tokens.items():
        config.vocab_size = len(own)
        made = transformers.Wav2Vec2ForCTC(config)
        if language == "eng":
            shared = {name: tensor for name, tensor in made.state_dict().items() if "adapter_layer" not in name and "lm_head" not in name}
        made.load_state_dict(shared, strict=False)
        made.lm_head.weight.data *= 30
        adapter = {name: torch.randn_like(tensor) if "adapter_layer" in name else tensor for name, tensor in made.state_dict().items()}
        made.load_state_dict(adapter)
        if language == "eng":
            made.save_pretrained(folder)
        kept = {name: tensor.contiguous() for name, tensor in made._get_adapters().items()}
        save_file(kept, folder / f"adapter.{language}.safetensors", metadata={"format": "pt"})
    (folder / "vocab.json").write_text(json.dumps({language: {token: at for at, token in enumerate(own)} for language, own in tokens.items()}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), target_lang="eng").save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({language: {token: at for at, token in enumerate(own)} for language, own in tokens.items()}))
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


class Checks:
    def __init__(self, sure: Path, worker: Path, scratch: Path):
        self.sure, self.worker, self.scratch = sure, worker, scratch
        self.corpora, self.failed, self.done = {}, [], 0

    def corpus(self, name: str, *options: str) -> None:
        self.corpora[name] = self.scratch / name
        if not self.corpora[name].exists():
            self.run("synth", name, self.corpora[name], *options)

    def settings(self) -> str:
        corpora = "".join(f'{name} = "{folder}"\n' for name, folder in self.corpora.items())
        return f"[corpora]\n{corpora}[checkpoints]\n" + "".join(f'{name} = "{self.scratch / name}"\n' for name in (*FAMILIES, "recogniser", "classifier", "languages"))

    def run(self, *arguments) -> None:
        command = [str(part) for part in (self.sure, *arguments)]
        done = subprocess.run(command, cwd=self.scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")

    def all(self, encoders: str, head: str, methods: str, corpus: str = "speech_commands") -> None:
        """Trains these and compares every folder."""
        settings = [f"encoder={encoders}", f"head={head}", f"method={methods}", f"corpus={corpus}"]
        self.run("run", HERE / "models.toml", *(part for setting in settings for part in ("--set", setting)))
        results = self.scratch / "results" / "models"
        folders = sorted(folder for folder in (results / "models").iterdir() if f"head={head}" in folder.name)
        for folder in folders:
            point = dict(part.split("=") for part in folder.name.split(","))
            if point["encoder"] not in encoders.split(",") or point["method"] not in methods.split(","):
                continue
            training = folder.resolve().parent
            encoder = self.encoder_of(results, point["encoder"])
            rows = self.rows(results / "predictions" / folder.name)
            self.compare(f"{folder.name}", folder.resolve(), encoder, rows, point)
            if point["method"] in MERGED:
                self.compare_merged(folder.name, training / "adapter", encoder, rows, point)

    def encoder_of(self, results: Path, name: str) -> Path:
        if name in FAMILIES:
            return self.scratch / name
        return self.path(name)[0]

    def path(self, node: str) -> list:
        """Folders of a node of the last run."""
        done = subprocess.run([str(self.sure), "path", node], cwd=self.scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"sure path {node}\n{done.stdout}{done.stderr}")
        return [Path(line) for line in done.stdout.splitlines()]

    def rows(self, predictions: Path) -> list:
        """Predictions of some clips, each with its samples."""
        table = pyarrow.parquet.read_table(predictions / "predictions.parquet").to_pylist()
        clips = self.clips()
        step = max(1, len(table) // CLIPS)
        return [{**row, "samples": clips[row["id"]]} for row in table[::step]]

    def clips(self) -> dict:
        clips = {}
        for folder in self.path("shards"):
            for row in pyarrow.parquet.read_table(Path(folder) / "test.parquet").to_pylist():
                with wave.open(io.BytesIO(row["audio"]["bytes"])) as sound:
                    samples = numpy.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
                clips[row["id"]] = (samples / 32768).astype("float32")
        return clips

    def compare(self, name: str, folder: Path, encoder: Path, rows: list, point: dict) -> None:
        """The lines of the model card, run unchanged for each clip."""
        if point["encoder"] == "whisper" and point["head"] == "ctc":
            if point["method"] == "finetune":
                self.answers(name, WhisperRecogniser(folder), WhisperProcessor(folder), rows, point)
            return
        card = (folder / "README.md").read_text()
        if "```python" not in card:
            self.say(name, "the card has no lines of Python")
            return
        check_metadata(card)
        names = {"encoder": str(encoder), "adapter": str(folder), "folder": str(folder), "samples": rows[0]["samples"], "print": lambda *_: None}
        exec(card.split("```python\n")[1].split("```")[0], names)  # noqa: S102: the lines that people are told to run
        self.answers(name, names["model"], names["processor"], rows, point)
        if point["method"] not in ("finetune", "head_only"):
            self.adapter_matters(name, names, rows, point)
        if isinstance(names["model"], PeftModel):
            self.survives_peft(name, names, rows, point)
        if point["method"] == "finetune":
            self.pipeline(name, folder, rows, point)

    def adapter_matters(self, name: str, names: dict, rows: list, point: dict) -> None:
        """Without the adapter, the head alone gives other answers: or this test would prove nothing."""
        model = names["model"].get_base_model() if isinstance(names["model"], PeftModel) else names["model"]
        bare = type(model).from_pretrained(names["encoder"], config=names["config"], ignore_mismatched_sizes=True).eval()
        stored = load_file(Path(names["adapter"]) / "adapter_model.safetensors")
        stored = {name.removeprefix("base_model.model."): tensor for name, tensor in stored.items()}
        bare.load_state_dict({name: tensor for name, tensor in stored.items() if ".encoder." not in f".{name}"}, strict=False)
        worst, _ = difference(bare, names["processor"], rows, point)
        if worst < 5 * tolerance(point):
            self.fail(name, f"without the adapter a loss differs by {worst:.1e} at most: the adapter hardly matters")

    def survives_peft(self, name: str, names: dict, rows: list, point: dict) -> None:
        """peft writes the adapter again, and loads what it wrote."""
        again = self.scratch / "again"
        shutil.rmtree(again, ignore_errors=True)
        names["model"].save_pretrained(again)
        if point["head"] in ("mixed", "xvector"):
            # peft leaves out the weights of the mix, and a layer whose name ends like that of the encoder's convolutions.
            done = self.merge_process(again, Path(names["encoder"]), self.scratch / "merged" / "again")
            refused = done.returncode != 0 and "lists" in done.stderr and "hint" in done.stderr
            self.say(f"{name}, written again by peft", "refused" if refused else f"not refused: {done.stderr}", failed=not refused)
            return
        kind = type(names["model"].get_base_model())
        base = kind.from_pretrained(names["encoder"], config=names["config"], ignore_mismatched_sizes=True)
        self.answers(f"{name}, written again by peft", PeftModel.from_pretrained(base, again).eval(), names["processor"], rows, point)
        merged = self.merge(f"{name}, written again by peft, merged", again, Path(names["encoder"]))
        if merged:
            kind = kind.from_pretrained(merged).eval()
            kind.config.id2label, kind.config.pad_token_id = names["config"].id2label, names["config"].pad_token_id  # peft keeps no labels
            self.answers(f"{name}, written again by peft, merged", kind, names["processor"], rows, point)

    def merge(self, name: str, adapter: Path, encoder: Path) -> Path | None:
        out = self.scratch / "merged" / name
        done = self.merge_process(adapter, encoder, out)
        if done.returncode:
            self.fail(name, done.stderr)
            return None
        return out

    def merge_process(self, adapter: Path, encoder: Path, out: Path) -> subprocess.CompletedProcess:
        shutil.rmtree(out, ignore_errors=True)
        return subprocess.run([str(self.worker), "merge", str(adapter), str(encoder), str(out)], capture_output=True, text=True, check=False)

    def compare_merged(self, name: str, adapter: Path, encoder: Path, rows: list, point: dict) -> None:
        out = self.merge(f"{name}, merged", adapter, encoder)
        if out is None:
            return
        ctc = point["head"] == "ctc"
        if ctc and point["encoder"] == "whisper":
            self.answers(f"{name}, merged", WhisperRecogniser(out), WhisperProcessor(out), rows, point)
            return
        kind = {"ctc": transformers.AutoModelForCTC, "xvector": transformers.AutoModelForAudioXVector}.get(point["head"], AutoModelForAudioClassification)
        processor = (transformers.AutoProcessor if ctc else AutoFeatureExtractor).from_pretrained(out)
        self.answers(f"{name}, merged", kind.from_pretrained(out).eval(), processor, rows, point)
        self.pipeline(f"{name}, merged", out, rows, point)

    def written_by_peft(self) -> None:
        """Adapters of peft with any head, or none, and targets in each of its forms, merged by `sure-neural`."""
        auto = transformers
        listed = ["q_proj", "output_dense"]
        regular = r".*\.layers\.[01]\.attention\.(q|v)_proj|.*\.layers\.1\.feed_forward\.intermediate_dense"
        cases = [
            ("no head, all-linear", auto.AutoModel, LoraConfig(target_modules="all-linear", init_lora_weights=False), {}),
            ("no head, vera", auto.AutoModel, VeraConfig(r=7, target_modules=listed), {}),
            ("no head, pissa", auto.AutoModel, LoraConfig(target_modules=listed, r=4, init_lora_weights="pissa"), {}),
            ("the checkpoint's head, adalora", auto.AutoModelForCTC, AdaLoraConfig(target_modules="all-linear", init_r=5, total_step=9), {}),
            ("no head, ia3", auto.AutoModel, IA3Config(target_modules=["k_proj", "output_dense"], feedforward_modules=["output_dense"]), {}),
            ("the checkpoint's head, expression", auto.AutoModelForCTC, LoraConfig(target_modules=regular, use_rslora=True, init_lora_weights=False), {}),
            ("the checkpoint's head, all-linear", auto.AutoModelForCTC, LoraConfig(target_modules="all-linear", use_dora=True, init_lora_weights=False), {}),
            ("a head of tokens", auto.AutoModelForCTC, LoraConfig(target_modules=listed, modules_to_save=["lm_head"], init_lora_weights=False), {"vocab_size": 9}),
            ("a head of classes", AutoModelForAudioClassification, LoraConfig(target_modules=listed, rank_pattern={"q_proj": 3}, alpha_pattern={"layers.0.attention.q_proj": 5}, modules_to_save=["projector", "classifier"], init_lora_weights=False), {"num_labels": 5}),
            ("a head of classes and norms", AutoModelForAudioClassification, LoraConfig(target_modules=listed, modules_to_save=["projector", "classifier", "final_layer_norm"], init_lora_weights=False), {"num_labels": 5}),
            ("a head of frames", auto.AutoModelForAudioFrameClassification, IA3Config(target_modules=listed, feedforward_modules=["output_dense"], modules_to_save=["classifier"]), {"num_labels": 4}),
        ]
        encoder = self.scratch / "wav2vec2"
        samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
        for name, kind, adapter, head in cases:
            torch.manual_seed(3)
            config = AutoConfig.from_pretrained(encoder, **head)
            model = get_peft_model(kind.from_pretrained(encoder, config=config, ignore_mismatched_sizes=True), adapter)
            for own, tensor in model.named_parameters():
                if tensor.requires_grad:
                    tensor.data += 0.1 * torch.randn_like(tensor)
            written = self.scratch / "peft" / name
            if isinstance(adapter, AdaLoraConfig):
                drop_ranks(model)
            model.save_pretrained(written, save_embedding_layers=False)
            out = self.merge(f"written by peft: {name}", written, encoder)
            if out is None:
                continue
            with torch.no_grad():
                expected, found = (one.eval()(samples)[0] for one in (model, kind.from_pretrained(out)))
            error = (expected - found).abs().max().item() if expected.shape == found.shape else float("inf")
            self.say(f"written by peft: {name}", f"largest difference of an output {error:.1e}", failed=not error <= 2e-5)

    def own_heads(self) -> None:
        """The head of a checkpoint, as it is, and adapted further."""
        for name, task, head, kind in [
            ("recogniser", "speech_recognition", "ctc", transformers.AutoModelForCTC),
            ("classifier", "keyword_spotting", "class", AutoModelForAudioClassification),
        ]:
            self.run("run", HERE / "own_head.toml", "--set", f"checkpoint={name}", "--set", f"task={task}")
            folder, point = self.scratch / name, {"head": head, "method": "lora", "encoder": name}
            processor = (transformers.AutoProcessor if head == "ctc" else AutoFeatureExtractor).from_pretrained(folder)
            rows = self.rows(self.path("as_it_is")[0])
            self.answers(f"{name}, as it is", kind.from_pretrained(folder).eval(), processor, rows, point)
            self.pipeline(f"{name}, as it is", folder, rows, point)
            self.compare(f"{name}, adapted further", self.path("train")[0] / "adapter", folder, self.rows(self.path("adapted")[0]), point)

    def languages(self) -> None:
        """Another language than the one that a checkpoint begins with."""
        folder = self.scratch / "languages"
        self.run("run", HERE / "own_head.toml", "--set", "checkpoint=languages", "--set", "checkpoint.language=fra")
        model = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra", ignore_mismatched_sizes=True).eval()
        tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder, target_lang="fra")
        processor = transformers.Wav2Vec2Processor(AutoFeatureExtractor.from_pretrained(folder), tokenizer)
        self.answers("languages, fra", model, processor, self.rows(self.path("as_it_is")[0]), {"head": "ctc", "encoder": "languages"})

    def pipeline(self, name: str, folder: Path, rows: list, point: dict) -> None:
        task = {"ctc": "automatic-speech-recognition", "class": "audio-classification", "mixed": "audio-classification"}.get(point["head"])
        if task is None or point["encoder"] == "whisper":
            return  # a pipeline pads every clip for Whisper to 30 s
        if point["encoder"] == "w2v_bert" and point["head"] == "ctc":
            # A pipeline decodes the last frame of an odd number of frames of the filter bank, which the mask leaves out.
            rows = even(rows)
        ask = pipeline(task, model=str(folder))
        wrong = 0
        for row in rows:
            answer = ask({"raw": row["samples"], "sampling_rate": 16000})
            if task == "audio-classification":
                wrong += answer[0]["label"] != row["prediction_text"]
            else:
                wrong += answer["text"] != row["hypothesis"]
        self.say(f"{name}, pipeline", f"{wrong} of {len(rows)} answers differ", failed=wrong > 0)

    def answers(self, name: str, model, processor, rows: list, point: dict) -> None:
        worst, wrong = difference(model, processor, rows, point)
        losses = [row["loss"] for row in rows]
        if max(losses) - min(losses) < 10 * tolerance(point):
            self.fail(name, "all clips have the same loss")
        if point["head"] == "ctc" and point["encoder"] in ("large", "base") and len({row["hypothesis"] for row in rows}) < 3:
            self.fail(name, "hardly any texts are recognised")
        self.say(name, f"largest difference of a loss {worst:.1e}, {wrong} of {len(rows)} answers differ", failed=not (worst <= tolerance(point) and wrong == 0))
        if point["encoder"] == "w2v_bert":
            with rounded_once():
                worst, wrong = difference(model, processor, rows, point)
            text = f"largest difference of a loss {worst:.1e}, {wrong} of {len(rows)} answers differ"
            self.say(f"{name}, frames rounded once", text, failed=not (worst <= USUAL_TOLERANCE and wrong == 0))

    def fail(self, name: str, reason: str) -> None:
        self.say(name, reason, failed=True)

    def say(self, name: str, text: str, failed: bool = False) -> None:
        self.done += 1
        self.failed += [name] if failed else []
        print(f"{'DIFFERS ' if failed else ''}{name}: {text}", flush=True)

    def verdict(self) -> int:
        print(f"{self.done} comparisons, {len(self.failed)} differ")
        return 1 if self.failed else 0


def drop_ranks(model) -> None:
    """Drops ranks of an AdaLoRA, as its allocator does at the end of a training."""
    tuner = model.base_model
    names = [name for name, _ in tuner.model.named_parameters() if "lora_E" in name]
    pattern = {name: [(at + rank) % 2 == 0 for rank in range(5)] for at, name in enumerate(names)}
    tuner.rankallocator.mask_using_rank_pattern(tuner.model, pattern)
    model.peft_config["default"].rank_pattern = pattern


def even(rows: list) -> list:
    """Clips with an even number of frames of the filter bank, which Wav2Vec2-BERT stacks in pairs."""
    return [row for row in rows if ((len(row["samples"]) - 400) // 160 + 1) % 2 == 0]


@contextlib.contextmanager
def rounded_once():
    """Frames of Wav2Vec2-BERT in double precision to the end, as `sure` computes them.

    transformers rounds the logarithms of the bands to float32 before it subtracts their mean and divides by their deviation. Where a band hardly
    changes, that enlarges the rounding: of a clip whose least deviation is 0.2, frames were off by 2.5e-5 and the loss of CTC by 2.3e-5 of 16;
    with frames rounded once, by less than 1e-6.
    """
    module = transformers.models.seamless_m4t.feature_extraction_seamless_m4t
    plain = module.spectrogram
    module.spectrogram = functools.partial(plain, dtype=numpy.float64)
    try:
        yield
    finally:
        module.spectrogram = plain


def tolerance(point: dict) -> float:
    if point["encoder"] == "w2v_bert" and point["head"] == "ctc":
        return 5e-5  # 2.3e-5 was measured; see `rounded_once`
    return TOLERANCE.get(point["head"], USUAL_TOLERANCE)


class WhisperRecogniser(torch.nn.Module):
    """The encoder of a folder as transformers loads it, and the head that transformers has no class for."""

    def __init__(self, folder: Path):
        super().__init__()
        self.inner = transformers.WhisperForAudioClassification.from_pretrained(folder).eval()
        self.config, self.encoder = self.inner.config, self.inner.encoder
        self.head = load_file(folder / "model.safetensors")

    def forward(self, input_features: torch.Tensor) -> SimpleNamespace:
        state = self.encoder(input_features).last_hidden_state
        return SimpleNamespace(logits=torch.nn.functional.linear(state, self.head["lm_head.weight"], self.head["lm_head.bias"]))


class WhisperProcessor:
    def __init__(self, folder: Path):
        self.extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder)
        self.batch_decode = self.tokenizer.batch_decode

    def __call__(self, samples, **options):
        return self.extractor(samples, **options)


def prepared(model, processor, samples) -> dict:
    """Input of a clip; for Whisper at its own length, as the cards have it."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if base.config.model_type != "whisper":
        inputs = processor(samples, sampling_rate=16000, return_tensors="pt")
        inputs.update({name: tensor.float() for name, tensor in inputs.items() if tensor.is_floating_point()})
        return inputs
    inputs = processor(samples, sampling_rate=16000, padding="longest", pad_to_multiple_of=320, return_tensors="pt")
    base.encoder.config.max_source_positions = base.encoder.embed_positions.num_embeddings = inputs.input_features.shape[-1] // 2
    return inputs


def difference(model, processor, rows: list, point: dict) -> tuple:
    """Largest difference of a loss to that of the predictions, and how many answers differ."""
    worst, wrong = 0.0, 0
    for row in rows:
        inputs = prepared(model, processor, row["samples"])
        with torch.no_grad():
            output = model(**inputs)
        if "input_features" in inputs and "attention_mask" in inputs and point["head"] == "ctc":
            output.logits = output.logits[:, : inputs.attention_mask.sum()]  # a frame that the clip fills in part is padding
        loss, right = judged(model, processor, output, row, point["head"])
        worst, wrong = max(worst, abs(loss - row["loss"])), wrong + (not right)
    return worst, wrong


def judged(model, processor, output, row: dict, head: str) -> tuple:
    """Loss of a clip in nats, and whether the answer is that of the prediction."""
    F = torch.nn.functional
    if head == "ctc":
        logits = output.logits
        tokenizer = processor.tokenizer
        ids = torch.tensor([tokenizer(row["reference"]).input_ids])
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        blank = model.config.pad_token_id
        loss = F.ctc_loss(log_probs, ids, [logits.shape[1]], [ids.shape[1]], blank=blank, reduction="none", zero_infinity=True)
        text = processor.batch_decode(logits.argmax(-1))[0]
        return loss.item() / max(1, ids.shape[1]), text == row["hypothesis"]
    if head == "xvector":
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        # peft keeps a trained module next to the one that it replaces.
        directions = [tensor for name, tensor in base.named_parameters() if name.startswith("objective.") and "original_module" not in name][-1]
        cosines = F.normalize(output.logits, dim=1) @ F.normalize(directions, dim=0)
        label = torch.tensor([row["label"]])
        scores = 30 * (cosines - 0.4 * F.one_hot(label, cosines.shape[1]))
        return F.cross_entropy(scores, label).item(), cosines.argmax(-1).item() == row["prediction"]
    if head == "intent":
        names = model.config.id2label
        by_slot = {}
        for at, name in names.items():
            by_slot.setdefault(name.split("=")[0], []).append(at)
        loss, right = 0.0, True
        for slot in row["slots"]:
            at = by_slot[slot["slot"]]
            own, labels = output.logits[:, at], [names[index].split("=")[1] for index in at]
            loss += F.cross_entropy(own, torch.tensor([labels.index(slot["label"])])).item()
            right &= labels[own.argmax(-1).item()] == slot["prediction"]
        return loss, right
    if head == "tags":
        names, scores = model.config.id2label, output.logits[0]
        right = [names[at] for at, score in enumerate(scores.tolist()) if score >= 0]
        wanted = torch.tensor([float(names[at] in row["labels"]) for at in range(len(names))])
        return F.binary_cross_entropy_with_logits(scores, wanted).item(), right == row["predictions"]
    loss = F.cross_entropy(output.logits, torch.tensor([row["label"]])).item()
    return loss, model.config.id2label[output.logits.argmax(-1).item()] == row["prediction_text"]


def check_metadata(card: str) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(card).data
    result = data.eval_results[0]
    assert data.pipeline_tag and data.library_name and data.tags and result.metric_type and result.dataset_name, card


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
