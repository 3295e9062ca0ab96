#!/usr/bin/env bash
# The first run on a GPU: does it compute what the CPU computes, how fast, and beside PyTorch on the same card.
#
#   benches/gpu_run.sh UMBRA OUT [--second]
#
# UMBRA is a binary built with `--features cuda`, OUT a folder for JSON. At most 10 minutes. `python3` has torch and
# diffusers; its wheels give the libraries where UMBRA_CUDA_LIBS is not set. --second: memory over 1,000 steps, 512 px.
set -u
umbra=$1 out=$2 second=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${UMBRA_CUDA_LIBS:-}" ]; then
    UMBRA_CUDA_LIBS=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])')
    export UMBRA_CUDA_LIBS
fi
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/card.txt"
step() { # name, seconds, command..
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$out/$name.json" 2>"$out/$name.log"
    echo "$name: exit $? after $((SECONDS - start)) s" | tee -a "$out/steps.txt"
    head -c 600 "$out/$name.json"
    tail -n 4 "$out/$name.log" | cut -c 1-400
}
if [ "$second" != --second ]; then
    step parity 90 "$umbra" parity --json
    for batch in 4 16 64; do
        step "umbra-bf16-32-$batch" 90 "$umbra" bench --device cuda:0 --bf16 --latent 32 --batch $batch
        step "torch-bf16-32-$batch" 90 python3 "$here/unet_peer.py" --bf16 --channels-last --latent 32 --batch $batch
    done
else
    step umbra-bf16-64-16 90 "$umbra" bench --device cuda:0 --bf16 --latent 64 --batch 16
    step torch-bf16-64-16 90 python3 "$here/unet_peer.py" --bf16 --channels-last --latent 64 --batch 16
    step torch-compile-32-64 240 python3 "$here/unet_peer.py" --bf16 --channels-last --compile --latent 32 --batch 64
    step umbra-1000-steps 200 "$umbra" bench --device cuda:0 --bf16 --latent 32 --batch 64 --iterations 1000
fi
