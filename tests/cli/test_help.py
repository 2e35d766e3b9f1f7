"""``dsoftmax --help`` is fast, and the help of each command is complete."""

import re
import subprocess
import sys

import pytest
from commands import run

from dsoftmax.cli.commands.evaluate import command as evaluate
from dsoftmax.cli.commands.inspect import command as inspect
from dsoftmax.cli.commands.train import command as train
from dsoftmax.cli.sections import SECTIONS
from dsoftmax.solvers.table import AUTO, SOLVERS


def test_help_is_fast_and_imports_nothing_heavy():
    code = """
import sys
from dsoftmax.cli.program import main
try:
    main(["--help"])
except SystemExit:
    print(sorted({"numpy", "zarr", "dask", "distributed", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("demo", "inspect", "train", "predict", "evaluate", "export"):
        assert command in done.stdout
        assert run(command, "--help").exit_code == 0


def test_the_help_of_train_names_every_solver():
    joined = re.sub(r"-\n\s+", "-", run("train", "--help").stdout)  # lines may break at a hyphen
    found = set(re.split(r"[\s,;:.]+", joined))
    assert {AUTO, *SOLVERS} <= found


@pytest.mark.parametrize("command", [train, inspect, evaluate])
def test_the_help_lists_every_option_once(command):
    said = run(command.name, "--help").stdout
    for param in command.params:
        if param.param_type_name == "option":
            assert len(re.findall(rf"^  {param.opts[0]}( |$)", said, re.MULTILINE)) == 1, param.opts


def test_the_sections_of_the_help_name_options_of_train():
    names = [name for section in SECTIONS.values() for name in section]
    assert len(set(names)) == len(names)
    assert set(names) <= {param.name for param in train.params}
