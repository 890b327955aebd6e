# Everything the project needs is set up by these targets; each says what it does and costs nothing when it is done already.
#
#   make quickstart   set up, build, make a small corpus, run the keyword task on it: a table, pictures and a page
#   make tiny         the whole benchmark, thirteen pairs of task and corpus by six methods, on synthetic corpora; keywords with three seeds
#   make build        set up and build `sure` and `sure-neural` (target/release)
#   make test         set up, then formatting, lints, docs and every test
#   make compat       check that datasets, polars, duckdb and pyarrow read our shards, and transformers and peft our models (makes Python environments once)
#   make dist         build an archive of both programs that runs without a compiler
#   make libtorch     only fetch libtorch (once per user) and tell cargo where it is

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: quickstart tiny build dist test compat libtorch system clean

QUICKSTART := quickstart
SURE := target/release/sure

quickstart: build
	@test -d $(QUICKSTART)/corpus || $(SURE) synth speech_commands $(QUICKSTART)/corpus
	@cp -n workflows/quickstart.sure.toml $(QUICKSTART)/sure.toml 2>/dev/null || true
	cd $(QUICKSTART) && ../$(SURE) run keyword_spotting

TINY := tiny
TINY_CORPORA := esd meld vctk speech_commands fluent_speech_commands audio_snips fleurs librispeech libritts l2_arctic

tiny: build
	@mkdir -p $(TINY)
	@cd $(TINY) && for corpus in $(TINY_CORPORA); do test -d $$corpus || ../$(SURE) synth $$corpus $$corpus; done
	@cp -n workflows/tiny.sure.toml $(TINY)/sure.toml 2>/dev/null || true
	cd $(TINY) && ../$(SURE) run benchmark --set size=tiny
	cd $(TINY) && ../$(SURE) run keyword_spotting --set size=tiny --set encoder_corpus=librispeech --set seed=1314,1315,1316

build: libtorch
	cargo build --release --locked -p sure -p neural

dist: libtorch
	scripts/dist.sh

test: libtorch
	scripts/check.sh

compat: libtorch
	tests/compat/run.sh
	tests/compat/models.sh

libtorch: system
	@python3 scripts/libtorch.py

system:
	@scripts/system.sh

clean:
	cargo clean
	rm -rf $(QUICKSTART)
