"""The line that says that numba compiles is shown once, to users of Python and of commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiled_cases import NEEDS_NUMBA

import dsoftmax

pytestmark = NEEDS_NUMBA
FIT = """
from dsoftmax import SoftmaxRegression
SoftmaxRegression(kernel="fused", solver="lbfgs", engine="serial").fit([[0.0], [1.0]], [0, 1])
"""
COMPILE = """
import multiprocessing, sys
from io import StringIO
from rich.console import Console
from dsoftmax.cli.notes import noted

def compile_two():
    from dsoftmax.kernels.compiled import digits
    digits.exponent(3)
    digits.exponent(3.5 > 3)

if __name__ == "__main__":
    if sys.argv[1] == "command":
        with noted(Console(file=sys.stderr)):
            compile_two()
    elif sys.argv[1] == "worker":
        worker = multiprocessing.get_context("spawn").Process(target=compile_two)
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
    else:
        compile_two()
"""


@pytest.fixture
def stderr_of(tmp_path):
    """Run a script in a process that finds no machine code at first; return its stderr."""

    def run(text, *words):
        script, root = tmp_path / "script.py", str(Path(dsoftmax.__file__).parents[1])
        script.write_text(text)
        environment = {**os.environ, "PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path / "code")}
        command = [sys.executable, str(script), *words]
        options = {"capture_output": True, "text": True, "check": True}
        return subprocess.run(command, env=environment, **options).stderr

    return run


def test_a_fit_in_python_says_once_that_it_compiles_and_not_when_it_loads(stderr_of):
    (line,) = stderr_of(FIT).splitlines()
    assert line.startswith("numba compiles the loops of kernel='fused'")
    assert stderr_of(FIT) == ""


@pytest.mark.parametrize(("process", "lines"), [("python", 1), ("command", 1), ("worker", 0)])
def test_the_line_is_shown_once_by_the_process_of_the_user(stderr_of, process, lines):
    assert stderr_of(COMPILE, process).count("numba compiles") == lines
