"""The drawn layers are walls: imports point down only, also those inside functions, and heavy packages stay where they belong."""

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dsoftmax"

LEVELS = {
    0: ("dsoftmax", "softmax", "fused", "blocks", "oracle", "errors", "units", "process", "files", "groups"),
    1: ("sources", "engine", "solvers"),
    2: (
        "statistics",
        "sample",
        "held",
        "labels",
        "evaluate",
        "objective",
        "settings",
        "validation",
        "model",
        "metrics",
        "checkpoint",
        "monitor",
    ),
    3: ("training", "grid", "inference", "uncertainty", "rundir"),
    4: ("estimator", "estimator_cv", "cli", "demo", "testing", "interrupts", "__main__"),
}
FAMILIES = ("sources", "engine", "solvers")
HEAVY = {
    "dask": ("sources/dask", "engine/cluster.py", "engine/connect.py"),
    "distributed": ("sources/dask", "engine/cluster.py", "engine/worker.py", "engine/connect.py"),
    "zarr": ("sources/", "model.py", "inference.py", "demo.py", "cli/"),
    "sklearn": ("estimator.py",),
    "numba": ("fused/",),
    "llvmlite": ("fused/",),
}


def name_of(path):
    parts = ["dsoftmax", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node):
    test = node.test if isinstance(node, ast.If) else None
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports_of(source, module, modules=MODULES, package=False):
    """The modules that a source imports, anywhere in it, but for what only the type checker sees."""
    found, waiting = set(), [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if is_type_checking(node):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                base = ".".join([*parts, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        waiting += ast.iter_child_nodes(node)
    return found


IMPORTS = {
    module: imports_of(path.read_text(encoding="utf-8"), module, package=path.name == "__init__.py")
    for module, path in MODULES.items()
}
OURS = {module: {one for one in found if one.partition(".")[0] == "dsoftmax"} for module, found in IMPORTS.items()}


def house(module):
    """The first part under the package: a module or a family."""
    return ([*module.split("."), ""])[1] or "dsoftmax"


def level(module):
    return next((number for number, names in LEVELS.items() if house(module) in names), None)


def test_every_module_has_a_level():
    unknown = [module for module in MODULES if level(module) is None]
    assert not unknown, f"give {unknown} a level in LEVELS, and in DESIGN.md"


def test_imports_point_down_only():
    wrong = [
        f"{module} (level {level(module)}) imports {other} (level {level(other)})"
        for module, others in OURS.items()
        for other in others
        if level(other) > level(module) or (level(other) == 1 and level(module) == 1 and house(other) != house(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_imported_exists():
    missing = [f"{module} imports {other}" for module, others in OURS.items() for other in others if other not in MODULES]
    assert not missing, "\n".join(missing)


def test_there_are_no_cycles():
    try:
        TopologicalSorter({module: others - {module} for module, others in OURS.items()}).prepare()
    except CycleError as error:
        pytest.fail("cycle: " + " ← ".join(error.args[1]))


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_where_they_belong(package):
    wrong = []
    for module, found in IMPORTS.items():
        path = MODULES[module].relative_to(ROOT).as_posix()
        used = any(one.partition(".")[0] == package for one in found)
        if used and not path.startswith(HEAVY[package]):
            wrong.append(path)
    assert not wrong, f"{package} is imported in {wrong}"


@pytest.mark.parametrize("statement", ["import dsoftmax", "import dsoftmax.errors, dsoftmax.oracle"])
def test_importing_the_package_is_light(statement):
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    loaded = {name.partition(".")[0] for name in json.loads(out.stdout)}
    heavy = {"dask", "distributed", "zarr", "sklearn", "scipy", "pandas", "click", "rich", "numba"}
    heavy |= set() if "oracle" in statement else {"numpy"}
    assert not loaded & heavy


def test_training_from_memory_needs_neither_dask_nor_zarr_nor_scikit_learn():
    code = """
import sys
import numpy as np
from dsoftmax.engine import make_engine
from dsoftmax.sources import open_source
from dsoftmax.settings import Settings
from dsoftmax.training import train
train(open_source(np.eye(3), [0, 1, 1]), make_engine(), Settings(max_iter=2))
print(*sorted({"dask", "distributed", "zarr", "sklearn"} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert out.stdout.strip() == ""


def test_the_reader_of_imports_sees_them_all():
    source = """
from typing import TYPE_CHECKING
import dsoftmax.a
if TYPE_CHECKING:
    import dsoftmax.hidden
else:
    import dsoftmax.shown
def f():
    from dsoftmax import b
    from dsoftmax.b import value
    from . import c
    from .c import other
    import_module("dsoftmax.d")
"""
    modules = {"dsoftmax.b", "dsoftmax.fam.c"}
    found = imports_of(source, "dsoftmax.fam.mod", modules)
    assert found == {"typing", "dsoftmax.a", "dsoftmax.shown", "dsoftmax.b", "dsoftmax.fam.c", "dsoftmax.d"}
    assert imports_of("from . import c", "dsoftmax.fam", modules, package=True) == {"dsoftmax.fam.c"}
