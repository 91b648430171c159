#!/usr/bin/env bash
# The call that taught the shipped net of vessels at first (CARD.md tells what came after), in two processes on one card: bash tests/benchmarks/teach_vessels.sh OUT SECONDS DATA
# The first draws phantoms, learns them, and goes on to the four folds; the second does the folds without phantoms and then all.
# Called with SMALL=1 it rehearses on a CPU; those weights are of no use.
set -uo pipefail
out=$(realpath -m "$1"); data=$(realpath "$3"); end=$(($(date +%s)+${2%.*}-8)); python=${PYTHON:-python3}
kept=$(mktemp -d); trap 'rm -rf "$kept"' EXIT
mkdir -p "$out"
more=(--phantoms 320); [ -z "${SMALL:-}" ] || more=(--phantoms 3 --size 2 --side 128 --most 1 --seen 2)
teach() { # WORKERS STEP...
  local workers=$1; shift
  timeout -k 2 $((end+4-$(date +%s))) "$python" -W ignore "$(dirname "${BASH_SOURCE[0]}")/teach_vessels.py" "$kept" "$@" --data "$data" --drawn "$kept/phantoms.npz" \
    --seconds $((end-$(date +%s))) --workers "$workers" "${more[@]}"
}
keep() { cp "$kept"/{all,phantom,fold0}.safetensors "$kept"/*.csv "$kept"/fold?.png "$out" 2>/dev/null; }
(teach 3 phantom:28 fold0+fold1+fold2+fold3:72:phantom >"$out/folds.log" 2>&1) & a=$!
(teach 0 scratch0+scratch1+scratch2+scratch3:72 all:28:phantom >"$out/all.log" 2>&1) & b=$!
while kill -0 $a 2>/dev/null || kill -0 $b 2>/dev/null; do sleep 3; keep; done
keep
ls -l "$out"
