"""The scripts and pages of cluster/: they parse, explain themselves, and use options that exist."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ROOT / "cluster"
FILES = [
    path for path in sorted(PLACES.rglob("*")) if path.is_file() and "__pycache__" not in path.parts
]
SCRIPTS = [path for path in FILES if path.suffix in (".sh", ".sbatch")]
PAGES = [path for path in FILES if path.suffix == ".md"]
PROGRAM = re.compile(r"\b(dsoftmax train|dask scheduler|dask worker)\b([^|>;&`\n]*)")


def name(path):
    return str(path.relative_to(PLACES))


def text_of(path):
    """The text of a file; of YAML, the commands as one would type them."""
    if path.suffix != ".yaml":
        return path.read_text()
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return "\n".join(
        " ".join(one) for page in yaml.safe_load_all(path.read_text()) for one in listed(page)
    )


def listed(node):
    """The lists named `command` in nested mappings and lists."""
    if isinstance(node, dict):
        if isinstance(node.get("command"), list):
            yield node["command"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from listed(one)


def commands(text):
    """The commands of dsoftmax and dask in a text, with their options."""
    joined = re.sub(r"\\\n\s*", " ", text)  # one command on several lines of a shell
    bare = re.sub(r"[\"',\[\]\\]", " ", joined)  # a list of words in YAML or Python
    for program, rest in PROGRAM.findall(bare):
        yield program, re.findall(r"(?<!\S)--[a-zA-Z][\w-]*", rest)


@cache
def known(program):
    """The options that the help of a program names."""
    module, command = program.split()
    run = [sys.executable, "-m", module, command, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-zA-Z][\w-]*", done.stdout))


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_a_script_parses_and_explains_itself(script):
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cluster/{name(script)} " in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.suffix == ".sh"], ids=name)
def test_a_script_can_be_run(script):
    assert script.stat().st_mode & 0o100


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_option_exists(path):
    for program, options in commands(text_of(path)):
        assert set(options) <= known(program), program


def test_the_commands_of_manifests_are_found():
    for place in ("kubernetes/job.yaml", "compose/compose.yaml"):
        found = dict(commands(text_of(PLACES / place)))
        assert found.keys() == {"dask scheduler", "dask worker", "dsoftmax train"}
        assert all("--tls-key" in options for options in found.values())


def test_an_option_that_does_not_exist_is_found():
    [(program, options)] = commands("dask worker \\\n  --nthreads 2 --no-such-option x >log")
    assert set(options) - known(program) == {"--no-such-option"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    files = re.findall(r"`([\w-]+\.(?:sh|sbatch|py|yaml|txt))`", text)
    assert not [one for one in links + files if not (page.parent / one).exists()]


def test_every_place_has_a_page():
    folders = [path for path in PLACES.iterdir() if path.is_dir()]
    assert not [folder.name for folder in folders if not (folder / "README.md").exists()]
