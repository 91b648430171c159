#!/usr/bin/env bash
# Everything that only a GPU can tell, in at most 8 minutes: bash tests/benchmarks/gpu.sh [OUT], from the repository's root.
#
# Trains ResNet50 and InceptionV3 by the loader and on random tensors, stops and resumes `fundus train`, and makes occlusion maps;
# prints a table and writes OUT/gpu.json (default OUT: .). Draws its own phantoms: no image and no weight is fetched.
# SMALL=1 rehearses all of it on a CPU in about two minutes; its figures mean nothing.
#
# Needs a Python with torch, timm and what settings.ini names. Where there is no network, bring a folder of wheels in WHEELS, made by
#   pip download --no-deps -d wheels fastai fastcore 'fastprogress<1.1' fastdownload fasttransform plum-dispatch beartype captum kaggle
# (pip says which of them your release of fastai wants; a newer fastprogress wants fasthtml and all its needs; plum-dispatch is built for
# one Python: --python-version 3.12 --only-binary=:all: where the card's differs); they are installed beside the Python that is there, and nothing else is touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$(realpath -m "${1:-.}"); python=${PYTHON:-python3}
. .ci/env
unset OMP_NUM_THREADS
site=$(mktemp -d); trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FUNDUS_HOME="$site/home"
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site/wheels" "$WHEELS"/*.whl
  PYTHONPATH="$PYTHONPATH:$site/wheels"
fi
mkdir -p "$out"
"$python" -W ignore tests/benchmarks/gpu.py --out "$out/gpu.json" ${SMALL:+--small}
