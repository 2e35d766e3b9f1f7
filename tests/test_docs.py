"""The README and the pages of dsoftmax/docs: links resolve, paths exist, code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from walls import WALLS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "dsoftmax" / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {path.name: path for path in sorted(DOCS.glob("*.md"))}
EXPECTED_PAGES = {
    "README.md", "api.md", "benchmarks.md", "cubes.md", "decisions.md", "design.md", "exports.md",
    "frames.md",
    "labels.md", "memory.md", "missing-rows.md", "reading-zarr.md", "remote.md",
    "reproducibility.md", "scaling.md", "solvers.md",
}  # fmt: skip
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def prose(page):
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def broken(page):
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_all_pages_are_there():
    assert PAGES.keys() == EXPECTED_PAGES


@pytest.mark.parametrize("name", PAGES)
def test_links_and_anchors_resolve(name):
    assert not broken(PAGES[name])


def test_a_broken_link_is_found(tmp_path):
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One head, two\n```sh\n# no head\n```\n")
    page.write_text("[1](b.md#one-head-two) [2](b.md#no-head) [3](c.md) [4](https://example.org)")
    assert broken(page) == ["b.md#no-head", "c.md"]


def test_every_page_is_linked_from_the_readme():
    linked = {Path(link.partition("#")[0]).name for link in links(PAGES["README.md"])}
    assert linked >= EXPECTED_PAGES - {"README.md"}


def paths_named(page):
    """Files and folders that a page names in code spans."""
    spans = re.findall(r"`([\w./-]+)`", prose(page))
    return [one for one in spans if re.search(r"/$|/[\w-]+\.\w+$|^\w+\.py$", one)]


@pytest.mark.parametrize("name", PAGES)
def test_every_path_that_is_named_exists(name):
    homes = (ROOT, ROOT / "dsoftmax", ROOT / "tests" / "benchmarks")
    missing = [
        path
        for path in paths_named(PAGES[name])
        if not path.startswith("/") and not any((home / path).exists() for home in homes)
    ]
    assert not missing


def test_the_benchmarks_are_all_on_their_page():
    said = (DOCS / "benchmarks.md").read_text()
    scripts = [
        path.name
        for path in (ROOT / "tests" / "benchmarks").glob("*.py")
        if "__main__" in path.read_text()
    ]
    assert not [name for name in scripts if f"tests/benchmarks/{name}" not in said]


def floors():
    """The lines of the drawing of the arrows, from the top, as lists of folders."""
    drawing = FENCE.findall((DOCS / "design.md").read_text().partition("## The arrows")[2])[0][1]
    return [re.split(r"\s{3,}", line)[0].split() for line in drawing.strip().splitlines()]


def test_every_wall_is_drawn_and_every_arrow_points_down():
    level = {folder: number for number, line in enumerate(floors()) for folder in line}
    tops = {name.partition("/")[0] for name in WALLS} - {"dsoftmax"}
    assert tops <= level.keys()
    for name, ways in WALLS.items():
        mine = name.partition("/")[0]
        for way in ways:
            other = way.partition("/")[0]
            if "dsoftmax" not in (mine, other) and mine != other:
                assert level[mine] < level[other], f"{name} imports {way}"


@pytest.mark.parametrize(
    "name",
    [name for name in PAGES if "```python" in PAGES[name].read_text() and name != "README.md"],
)
def test_the_python_of_a_page_runs(name, tmp_path):
    """The README's own code is run by test_readme.py."""
    code = "\n".join(
        text for kind, text in FENCE.findall(PAGES[name].read_text()) if kind == "python"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
