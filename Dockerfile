# SPDX-License-Identifier: Apache-2.0
# Potstill on a CPU: docker build -t potstill . && docker run --rm -v "$PWD:/work" potstill distill digits --ipc 1 --out small.safetensors
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM ${BASE}
# gcc: the kernels are compiled where they are used. Without it everything runs, slower.
# The base image decides the distribution's versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
# PyTorch first, from its index without CUDA: the default one brings gigabytes of it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" torch
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /dist/*.whl)[samples,hub]"
RUN useradd --create-home --uid 1000 potstill && mkdir /work && chown potstill /work
USER potstill
WORKDIR /work
ENTRYPOINT ["potstill"]
CMD ["--help"]
