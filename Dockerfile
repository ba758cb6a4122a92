# The command line as it runs on Kaggle: Python and the packages of its image, on a CPU. Simulator and dashboard beside it.
#   docker build -t spectramind .
#   docker run --rm -v "$PWD:/work" spectramind run --profile example
# The real image (20 GB; GPU) instead, with what it lacks installed on top:
#   docker build -t spectramind --build-arg BASE=gcr.io/kaggle-images/python .
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

WORKDIR /src
COPY docker/kaggle-constraints.txt docker/
# Torch comes with gigabytes of CUDA, unless --build-arg TORCH_INDEX=... names PyTorch's index of CPU builds.
ARG TORCH_INDEX=
RUN pip install --no-cache-dir -c docker/kaggle-constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

COPY setup.py settings.ini pyproject.toml MANIFEST.in README.md LICENSE ./
COPY nbs nbs
COPY spectramind_nb spectramind_nb
RUN pip install --no-cache-dir -c docker/kaggle-constraints.txt '.[demo,dashboard,explain]'

RUN useradd --create-home ariel && mkdir -p /work && chown ariel /work
USER ariel
WORKDIR /work
ENTRYPOINT ["spectramind"]
CMD ["--help"]
