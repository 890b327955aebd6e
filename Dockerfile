# Both programs, libtorch and ffmpeg on Debian.
#
#   docker build -t sure .
#   docker run --rm -v "$PWD:/work" sure run keyword_spotting --corpus speech_commands=corpus
FROM rust:1.95-bookworm AS build
# Debian keeps no earlier versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make dist && mv dist/sure-*-linux-x86_64 /sure

FROM debian:bookworm-slim
# Debian keeps no earlier versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates ffmpeg python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /sure /opt/sure
ENV XDG_CACHE_HOME=/opt/cache PATH=/opt/sure/bin:$PATH
RUN python3 /opt/sure/libtorch.py --link /opt/sure/lib
WORKDIR /work
ENTRYPOINT ["sure"]
