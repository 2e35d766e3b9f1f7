"""The script of cluster/ssh with an ssh server on this machine."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import free_port, wait_until

from dsoftmax import load_model

SCRIPT = Path(__file__).parents[2] / "cluster" / "ssh" / "train.sh"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed (apt: openssh-server)"),
    pytest.mark.skipif(
        getpass.getuser() == "root" and not Path("/run/sshd").is_dir(),
        reason="sshd needs /run/sshd, which its service makes",
    ),
]

CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
"""


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """Start a server of our own, and give the command that connects to it."""
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for key in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(make, check=True)
    (folder / "conf").write_text(CONFIGURATION.format(port=port, folder=folder))
    server = subprocess.Popen([SSHD, "-D", "-f", folder / "conf", "-E", folder / "log"])
    try:
        wait_until(lambda: answers(port))
        options = "-o StrictHostKeyChecking=no -o LogLevel=ERROR"
        known = f"-o BatchMode=yes -o UserKnownHostsFile={folder}/known"
        yield f"ssh -p {port} -i {folder}/user {options} {known}"
    finally:
        server.terminate()
        server.wait(20)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def train(ssh, certificates, stored, folder, **more):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {"PATH": programs, "SSH": ssh, "TLS": str(certificates), "ADDRESS": "127.0.0.1"}
    return subprocess.run(
        [SCRIPT, *stored.arguments, "--out", "run"],
        env={**os.environ, **given, "HOSTS": "127.0.0.1 localhost", **more},
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_two_machines_give_the_bits_of_threads(ssh, certificates, stored, tmp_path):
    done = train(ssh, certificates, stored, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stdout + done.stderr
    assert load_model(tmp_path / "run").coef_.tobytes() == stored.coef.tobytes()


def test_a_machine_without_dask_is_named(ssh, certificates, stored, tmp_path):
    done = train(ssh, certificates, stored, tmp_path, DASK="/no/dask")
    assert done.returncode == 1
    assert "No worker started on 127.0.0.1:" in done.stderr
    assert "/no/dask" in done.stderr
    assert not (tmp_path / "run").exists()
