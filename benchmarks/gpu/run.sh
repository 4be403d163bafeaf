#!/usr/bin/env bash
# One GPU in eight minutes, on a machine with Python 3.12, torch and transformers that can fetch nothing: benchmarks/gpu/run.sh OUT
#
# What is missing there comes as wheels, made beforehand by benchmarks/gpu/wheels.sh, and goes into a folder of its own.
# Options after OUT go to benchmarks.gpu.one_gpu (--tiny, --seconds).
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "${1:?where to write the results}")
shift
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "benchmarks/gpu/wheels/*.whl" >/dev/null; then
  python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site/packages" \
    benchmarks/gpu/wheels/*.whl
fi
export PYTHONPATH="$PWD:$site/packages" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TORCHINDUCTOR_CACHE_DIR="$site/inductor"
python3 -m benchmarks.gpu.one_gpu --out "$out" "$@"
