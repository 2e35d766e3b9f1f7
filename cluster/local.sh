#!/usr/bin/env bash
# Train on a dask cluster of this machine: a scheduler and two workers. The training run finds them
# by the address of the scheduler, as on any cluster. Takes the arguments of `dsoftmax train`:
#
#   cluster/local.sh data.zarr --features X --labels y --out run
set -euo pipefail
if [ $# -eq 0 ]; then
  sed -n '2,5p' "$0" >&2
  exit 1
fi

scratch=$(mktemp -d)
pids=()
stop() {
  kill "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  rm -rf "$scratch"
}
trap stop EXIT

file=$scratch/scheduler.json
dask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file "$file" \
  >"$scratch/scheduler.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
  [ -s "$file" ] && break
  sleep 0.1
done
if ! [ -s "$file" ]; then
  echo "The scheduler did not start within 10 s; its log:" >&2
  cat "$scratch/scheduler.log" >&2
  exit 1
fi
address=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$file")

threads=$(($(getconf _NPROCESSORS_ONLN) / 2))
[ "$threads" -ge 1 ] || threads=1
for name in one two; do
  dask worker "$address" --name "$name" --nthreads "$threads" --no-dashboard \
    --local-directory "$scratch" >"$scratch/$name.log" 2>&1 &
  pids+=($!)
done

dsoftmax train "$@" --scheduler "$address"
