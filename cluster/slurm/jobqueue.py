"""Train with workers in Slurm jobs of their own, and replace those that are lost.

Takes the arguments of `dsoftmax train`. The scheduler and the training run stay in this process's
machine, such as a login node. TLS is the folder that cluster/tls.sh made, or "none":

    pip install dask-jobqueue
    TLS=~/tls JOBS=8 python cluster/slurm/jobqueue.py data.zarr --features X --labels y --out run
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Security

# dask_jobqueue ends the process at Ctrl-C. Here only the training run answers, and saves its state.
signal.signal(signal.SIGINT, lambda *_: None)

folder = os.environ.get("TLS")
if len(sys.argv) == 1 or folder is None:
    sys.exit(__doc__)
security, files = None, []
if folder != "none":
    ca, cert, key = (str(Path(folder, f"{name}.pem").resolve()) for name in ("ca", "cert", "key"))
    roles = ("client", "scheduler", "worker")
    certificates = {f"tls_{role}_cert": cert for role in roles}
    keys = {f"tls_{role}_key": key for role in roles}
    security = Security(tls_ca_file=ca, require_encryption=True, **certificates, **keys)
    files = ["--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key]

with SLURMCluster(
    cores=int(os.environ.get("CORES", "2")),
    processes=1,
    memory=os.environ.get("MEMORY", "2GiB"),
    protocol="tcp" if security is None else "tls",
    security=security,
    scheduler_options={"dashboard": False},
    worker_extra_args=["--no-dashboard"],
) as cluster:
    # adapt submits a job again if it is preempted or cancelled; scale does not.
    jobs = int(os.environ.get("JOBS", "2"))
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    command = ["dsoftmax", "train", *sys.argv[1:], "--scheduler", cluster.scheduler_address]
    done = subprocess.run([*command, *files], check=False)
sys.exit(done.returncode)
