#!/usr/bin/env bash
# Train on machines that ssh reaches: a worker on each of HOSTS, the scheduler and the training run
# on this machine. Takes the arguments of `dsoftmax train`:
#
#   TLS=~/tls HOSTS="node1 node2" cluster/ssh/train.sh data.zarr --features X --labels y --out run
#
# TLS is the folder that cluster/tls.sh made, or "none". It and the data have the same path on all
# machines. ADDRESS is the name of this machine for the others (its first address), SSH the command
# ("ssh -o BatchMode=yes"), DASK the path of dask on HOSTS (that of this machine).
set -euo pipefail
if [ $# -eq 0 ]; then
  sed -n '2,9p' "$0" >&2
  exit 1
fi
: "${HOSTS:?is not set. Pass the names of machines, separated by spaces.}"
: "${TLS:?is not set. Pass the folder that cluster/tls.sh made, or TLS=none on a private network.}"
read -r -a hosts <<<"$HOSTS"
read -r -a ssh <<<"${SSH:-ssh -o BatchMode=yes}"
dask=${DASK:-$(command -v dask)}

protocol=tcp
tls=()
if [ "$TLS" != none ]; then
  protocol=tls
  tls=(--tls-ca-file "$TLS/ca.pem" --tls-cert "$TLS/cert.pem" --tls-key "$TLS/key.pem")
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
dask scheduler --protocol "$protocol" --port 0 --no-dashboard --scheduler-file "$file" \
  ${ADDRESS:+--host "$ADDRESS"} ${tls[@]+"${tls[@]}"} >"$scratch/scheduler.log" 2>&1 &
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

worker=$(printf '%q ' "$dask" worker "$address" --no-dashboard --death-timeout 60 \
  --local-directory /tmp ${tls[@]+"${tls[@]}"})
for host in "${hosts[@]}"; do
  # With a terminal, the worker ends if the connection does.
  "${ssh[@]}" -tt "$host" "$worker" </dev/null >"$scratch/$host.log" 2>&1 &
  pids+=($!)
done
sleep 1
for index in "${!hosts[@]}"; do
  if ! kill -0 "${pids[$((index + 1))]}" 2>/dev/null; then
    echo "No worker started on ${hosts[$index]}:" >&2
    cat "$scratch/${hosts[$index]}.log" >&2
    exit 1
  fi
done

dsoftmax train "$@" --scheduler "$address" ${tls[@]+"${tls[@]}"}
