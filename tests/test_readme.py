"""Run the README outside the checkout, in the order in which it is read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which `python` and `dsoftmax` are those under test."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_python_and_the_commands_run_as_printed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    python = "\n".join(blocks("python"))  # a block uses names of those before it
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Converged" in done.stdout
    own_data = next(block for block in blocks("sh") if "inspect" in block)
    for line in own_data.strip().splitlines():
        done = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "labels.zarr").is_dir()


def test_the_readme_is_a_landing_page() -> None:
    assert len(README.splitlines()) <= 110
    assert max(len(block.strip().splitlines()) for block in blocks("python")) <= 12


def test_two_commands_do_the_set_up() -> None:
    install = [block.strip() for block in blocks("sh") if "pip install" in block]
    assert len(install) == 2
    assert install[0].endswith("dsoftmax demo")
    assert " -m pytest " in install[1]
