#!/usr/bin/env bash
# Train under mpiexec: rank 0 is the scheduler and the training run, every other rank is a worker.
# Takes the arguments of `dsoftmax train`. TLS is the folder that cluster/tls.sh made, or "none":
#
#   TLS=~/tls mpiexec -n 5 cluster/mpi/train.sh data.zarr --features X --labels y --out run
#
# THREADS (1) and MEMORY (auto) are those of each worker. The folder is shared by all nodes.
set -euo pipefail
rank=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-}}}
size=${PMI_SIZE:-${OMPI_COMM_WORLD_SIZE:-}}
if [ $# -eq 0 ] || [ -z "$rank" ]; then
  sed -n '2,7p' "$0" >&2
  exit 1
fi
if [ "${size:-2}" -lt 2 ]; then
  echo "mpiexec started one process; expected at least two: pass -n 2 or more." >&2
  exit 1
fi
: "${TLS:?is not set. Pass the folder that cluster/tls.sh made, or TLS=none on a private network.}"

protocol=tcp
tls=()
if [ "$TLS" != none ]; then
  protocol=tls
  tls=(--tls-ca-file "$TLS/ca.pem" --tls-cert "$TLS/cert.pem" --tls-key "$TLS/key.pem")
fi
file=$PWD/dsoftmax-mpi.scheduler.json
if [ "$rank" -eq 0 ]; then
  if [ -e "$file" ]; then
    echo "$file exists: a run in this folder goes on, or was killed. Then remove the file." >&2
    exit 1
  fi
  dask scheduler --protocol "$protocol" --port 0 --no-dashboard --scheduler-file "$file" \
    ${tls[@]+"${tls[@]}"} >dsoftmax-mpi.scheduler.log 2>&1 &
  scheduler=$!
  trap 'kill "$scheduler" 2>/dev/null || true; wait "$scheduler" || true; rm -f "$file"' EXIT
fi
for _ in $(seq 600); do
  [ -s "$file" ] && break
  sleep 0.1
done
if ! [ -s "$file" ]; then
  echo "The scheduler did not start within 60 s; see dsoftmax-mpi.scheduler.log." >&2
  exit 1
fi

if [ "$rank" -eq 0 ]; then
  dsoftmax train "$@" --scheduler-file "$file" ${tls[@]+"${tls[@]}"}
else
  # The scheduler ends the workers when the run has ended.
  exec dask worker --scheduler-file "$file" --protocol "$protocol" --no-dashboard \
    --nthreads "${THREADS:-1}" --memory-limit "${MEMORY:-auto}" --death-timeout 60 \
    --local-directory "${TMPDIR:-/tmp}" ${tls[@]+"${tls[@]}"} >"dsoftmax-mpi.$rank.log" 2>&1
fi
