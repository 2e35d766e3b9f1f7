#!/usr/bin/env bash
# Make certificates for one dask cluster: an authority, and one certificate that the scheduler, the
# workers and `dsoftmax train` share. Whoever has key.pem can run code on the cluster.
#
#   cluster/tls.sh DIRECTORY [HOST...]
#
# HOST are the names and addresses under which the scheduler and the workers are reached; localhost
# and 127.0.0.1 are always among them. Writes ca.pem, cert.pem and key.pem, valid for 90 days:
#
#   tls="--tls-ca-file DIRECTORY/ca.pem --tls-cert DIRECTORY/cert.pem --tls-key DIRECTORY/key.pem"
#   dask scheduler --protocol tls $tls
#   dask worker tls://HOST:8786 $tls
#   dsoftmax train ... --scheduler tls://HOST:8786 $tls
set -euo pipefail
if [ $# -eq 0 ]; then
  sed -n '2,15p' "$0" >&2
  exit 1
fi
umask 077
directory=$1
shift
mkdir -p "$directory"
if [ -e "$directory/key.pem" ]; then
  echo "$directory/key.pem exists. Remove it first, or pass another directory." >&2
  exit 1
fi
names=DNS:localhost,IP:127.0.0.1
for host in "$@"; do
  case $host in
    *[!0-9.]*) names=$names,DNS:$host ;;
    *) names=$names,IP:$host ;;
  esac
done

cd "$directory"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
openssl req -x509 -newkey rsa:3072 -nodes -days 90 -subj "/CN=dsoftmax cluster authority" \
  -keyout "$scratch/ca.key" -out ca.pem 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
openssl req -newkey rsa:3072 -nodes -subj "/CN=dsoftmax cluster" \
  -keyout key.pem -out "$scratch/request" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >"$scratch/names"
openssl x509 -req -in "$scratch/request" -CA ca.pem -CAkey "$scratch/ca.key" -CAcreateserial \
  -CAserial "$scratch/serial" -days 90 -extfile "$scratch/names" -out cert.pem \
  2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
echo "Wrote $directory/ca.pem, cert.pem and key.pem for $names."
