#!/usr/bin/env bash
# Wheels for a machine that has Python 3.12, torch and transformers, and cannot fetch anything: benchmarks/gpu/wheels.sh [FOLDER]
#
# Into FOLDER (benchmarks/gpu/wheels, ignored by git): what Textmill's pretrain imports beside torch, transformers, numpy,
# tokenizers and safetensors. DeepSpeed comes as source, from which a wheel is made here by the project's environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-benchmarks/gpu/wheels}
python=.venv/bin/python
mkdir -p "$folder"
rm -f "$folder"/*.whl
of_lock() { grep -o "^$1==[^ \\]*" requirements.lock; }
names=(annotated-types einops filelock hjson msgpack ninja packaging psutil py-cpuinfo pydantic pydantic-core
  ruamel-yaml tqdm typing-extensions typing-inspection)
wanted=()
for name in "${names[@]}"; do
  wanted+=("$(of_lock "$name" || of_lock "${name//-/.}" || echo "$name")")
done
platforms=()
for platform in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010 manylinux1; do
  platforms+=(--platform "${platform}_x86_64")
done
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
  --implementation cp "${platforms[@]}" --dest "$folder" "${wanted[@]}"
# Its kernels are compiled at first use or not at all; the wheel is Python alone.
DS_BUILD_OPS=0 DS_ACCELERATOR=cpu "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  --wheel-dir "$folder" "$(of_lock deepspeed)"
kilobytes=$(du --summarize --block-size=1K "$folder" | cut -f1)
echo "$(find "$folder" -name '*.whl' | wc -l) wheels, $((kilobytes / 1024)) MB in $folder"
[ "$kilobytes" -lt $((60 * 1024)) ] || { echo "more than 60 MB" >&2; exit 1; }
