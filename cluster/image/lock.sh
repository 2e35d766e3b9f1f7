#!/usr/bin/env bash
# Lock the packages of the image anew: every version, and the hash of every file. Needs uv.
#
#   cluster/image/lock.sh 3.13
#
# The argument is the version of Python in the image.
set -euo pipefail
if [ $# -ne 1 ]; then
  sed -n '2,6p' "$0" >&2
  exit 1
fi
cd "$(dirname "$0")/../.."
extras=(--extra fast --extra remote --extra parquet --extra hdf5)
{
  echo "# Made by cluster/image/lock.sh $1"
  # hatchling builds the wheel of dsoftmax in the image.
  echo "hatchling>=1.27" | uv pip compile pyproject.toml - "${extras[@]}" --python-version "$1" \
    --python-platform linux --generate-hashes --no-annotate --no-header --quiet
} >cluster/image/requirements.txt
