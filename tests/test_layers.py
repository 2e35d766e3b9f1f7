"""The folders are rooms with walls: each imports only what `WALLS` lists, also inside functions."""

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from walls import HEAVY, WALLS

ROOT = Path(__file__).parents[1] / "dsoftmax"


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
    """The modules that a source imports anywhere, except those that only the type checker sees."""
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
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        waiting += ast.iter_child_nodes(node)
    return found


def called(node):
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


IMPORTS = {
    module: imports_of(path.read_text(encoding="utf-8"), module, package=path.name == "__init__.py")
    for module, path in MODULES.items()
}
OURS = {
    module: {one for one in found if one.partition(".")[0] == "dsoftmax"}
    for module, found in IMPORTS.items()
}


def place(module):
    """The path of a module below the package, without its ending."""
    return "/".join(module.split(".")[1:]) or "dsoftmax"


def folder(module):
    """The folder of a module; `errors` is a room of its own, other modules at the root are not."""
    path = MODULES[module]
    found = path.parent.relative_to(ROOT).as_posix()
    if found != ".":
        return found
    return "errors" if path.name == "errors.py" else "dsoftmax"


def allowed(module, other):
    """Whether the walls let a module import another one."""
    mine, theirs = folder(module), folder(other)
    ways = WALLS[mine]
    above = [theirs.rsplit("/", n)[0] for n in range(theirs.count("/") + 1)]
    return (
        mine == theirs
        or theirs in ways
        or place(other) in ways
        or any(f"{one}/*" in ways for one in above)
    )


def test_every_folder_has_walls():
    found = {folder(module) for module in MODULES}
    assert found == set(WALLS), "list each folder in tests/support/walls.py, and in docs/design.md"


def test_folders_import_only_what_their_walls_allow():
    wrong = [
        f"{place(module)} imports {place(other)}"
        for module, others in OURS.items()
        for other in others
        if not allowed(module, other)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_the_walls_are_true():
    """A way that nobody takes is not drawn."""
    unused = []
    for name, ways in WALLS.items():
        taken = [
            other for module, others in OURS.items() if folder(module) == name for other in others
        ]
        for way in ways:
            used = {folder(other) for other in taken} | {place(other) for other in taken}
            if way.endswith("/*"):
                used |= {f"{one.split('/')[0]}/*" for one in used if one.startswith(way[:-1])}
            if way not in used:
                unused.append(f"{name} never imports {way}")
    assert not unused, "\n".join(unused)


def test_what_is_imported_exists():
    missing = [
        f"{module} imports {other}"
        for module, others in OURS.items()
        for other in others
        if other not in MODULES
    ]
    assert not missing, "\n".join(missing)


def require_no_cycle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("cycle: " + " ← ".join(error.args[1]))


def test_modules_do_not_import_each_other_in_a_circle():
    require_no_cycle({module: others - {module} for module, others in OURS.items()})


def test_folders_do_not_import_each_other_in_a_circle():
    """A folder and the folders inside it are one room."""
    top = {module: folder(module).split("/")[0] for module in MODULES}
    graph = {}
    for module, others in OURS.items():
        graph.setdefault(top[module], set()).update(top[other] for other in others)
    del graph["dsoftmax"]  # the public names at the top, and the version at the bottom
    require_no_cycle({name: others - {name, "dsoftmax"} for name, others in graph.items()})


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_where_they_belong(package):
    wrong = []
    for module, found in IMPORTS.items():
        path = MODULES[module].relative_to(ROOT).as_posix()
        used = any(one.partition(".")[0] == package for one in found)
        if used and not path.startswith(HEAVY[package]):
            wrong.append(path)
    assert not wrong, f"{package} is imported in {wrong}"


@pytest.mark.parametrize(
    "statement", ["import dsoftmax", "import dsoftmax.errors, dsoftmax.solvers.protocol"]
)
def test_importing_the_package_is_light(statement):
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(run_python(code))}
    heavy = {"dask", "distributed", "zarr", "sklearn", "scipy", "pandas", "click", "rich", "numba"}
    heavy |= set() if "protocol" in statement else {"numpy"}
    assert not loaded & heavy


def test_training_from_memory_needs_neither_dask_nor_zarr_nor_scikit_learn():
    code = """
import sys
import numpy as np
from dsoftmax.engines.choose import make_engine
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.training.settings import Settings
from dsoftmax.training.loop import train
train(open_source(Table(np.eye(3), [0, 1, 1])), make_engine(), Settings(max_iter=2))
print(*sorted({"dask", "distributed", "zarr", "sklearn"} & set(sys.modules)))
"""
    assert run_python(code).strip() == ""


def run_python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT.parent
    ).stdout


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
    ours = {"dsoftmax.a", "dsoftmax.shown", "dsoftmax.b", "dsoftmax.fam.c", "dsoftmax.d"}
    assert found == {"typing", *ours}
    package = imports_of("from . import c", "dsoftmax.fam", modules, package=True)
    assert package == {"dsoftmax.fam.c"}
