# Potstill on a CPU: docker build -t potstill . && docker run --rm -v "$PWD:/work" potstill distill digits --ipc 1 --out small.safetensors
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /dist

FROM python:3.12-slim
# gcc: the kernels are compiled where they are used. Without it everything runs, slower.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist/*.whl /tmp/
COPY constraints.txt /tmp/constraints.txt
# PyTorch first, from its index without CUDA: the default one brings gigabytes of it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" torch \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /tmp/*.whl)[samples,hub]" \
    && rm /tmp/*.whl /tmp/constraints.txt
RUN useradd --create-home --uid 1000 potstill && mkdir /work && chown potstill /work
USER potstill
WORKDIR /work
ENTRYPOINT ["potstill"]
CMD ["--help"]
