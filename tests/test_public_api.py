"""The page of the public API agrees with the package: names, parameters, attributes."""

import importlib
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dsoftmax
import dsoftmax.typing
from dsoftmax import errors
from dsoftmax.results.uncertainty import Estimates, Uncertainty

PAGE = (Path(dsoftmax.__file__).parent / "docs" / "api.md").read_text(encoding="utf-8")
CLASSES = ("SoftmaxRegression", "SoftmaxRegressionCV", "Model")


def table(section):
    """The rows below a heading: the name in the first column, and the names in the second."""
    (text,) = re.findall(rf"^## {section}[^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {one.strip(" `"): re.findall(r"`([^`]+)`", other) for one, other in rows}


def public(name):
    found = dsoftmax
    for part in name.split("."):
        found = getattr(found, part)
    return found


def methods(name):
    """The public methods of a class that are defined in this package."""
    return {
        f"{name}.{method}"
        for method, function in inspect.getmembers(public(name), inspect.isfunction)
        if not method.startswith("_") and function.__module__.startswith("dsoftmax")
    }


def documented(kind, section):
    """The names that a section of a class's docstring describes."""
    doc = inspect.getdoc(kind)
    (text,) = re.findall(rf"^{section}\n-+\n(.*?)(?:\n\n\w+\n-+\n|\Z)", doc, re.DOTALL | re.M)
    heads = [line.partition(" : ")[0] for line in text.splitlines() if re.match(r"\w", line)]
    return [name for head in heads for name in head.split(", ")]


def test_the_page_lists_what_the_package_exports():
    assert sorted(table("Names")) == sorted(dsoftmax.__all__) == dir(dsoftmax)
    for name in dsoftmax.__all__:
        assert getattr(dsoftmax, name) is not None


def test_tab_completion_finds_the_names_before_anything_is_imported():
    code = """
import rlcompleter, sys, dsoftmax
completer = rlcompleter.Completer({"dsoftmax": dsoftmax})
assert "numpy" not in sys.modules
state, found = 0, []
while (one := completer.complete("dsoftmax.S", state)) is not None:
    state, found = state + 1, [*found, one]
print(*found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.findall(r"dsoftmax\.(\w+)", done.stdout) == [
        "SoftmaxRegression",
        "SoftmaxRegressionCV",
    ]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dsoftmax' has no attribute 'Softmax'"):
        _ = dsoftmax.Softmax


def test_the_page_lists_every_callable():
    found = {"from_sklearn", "load_model", "parquet", "save_model", *CLASSES}.union(
        *map(methods, CLASSES)
    )
    assert set(table("Parameters")) == found


@pytest.mark.parametrize("name", table("Parameters"))
def test_the_page_lists_the_parameters(name):
    parameters = list(inspect.signature(public(name)).parameters)
    assert [one for one in parameters if one != "self"] == table("Parameters")[name]


@pytest.mark.parametrize("name", ["SoftmaxRegression", "SoftmaxRegressionCV"])
def test_docstrings_describe_the_parameters_and_the_attributes_of_the_page(name):
    assert sorted(documented(public(name), "Parameters")) == sorted(table("Parameters")[name])
    assert sorted(documented(public(name), "Attributes")) == sorted(table("Attributes")[name])


@pytest.mark.parametrize("name", ["SoftmaxRegression", "SoftmaxRegressionCV"])
def test_the_page_lists_the_attributes_of_a_fitted_estimator(name):
    X = pd.DataFrame({"a": np.arange(60.0), "b": np.arange(60) % 7})
    options = {"Cs": [1.0], "cv": 2} if name.endswith("CV") else {}
    estimator = public(name)(engine="serial", **options).fit(X, np.arange(60) % 3)
    assert set(table("Attributes")[name]) == {one for one in vars(estimator) if one.endswith("_")}


@pytest.mark.parametrize("kind", [dsoftmax.Model, Uncertainty, Estimates])
def test_the_page_lists_the_attributes_of_results(kind):
    properties = [name for name, _ in inspect.getmembers(kind, lambda one: type(one) is property)]
    fields = list(kind.__dataclass_fields__)
    assert sorted(table("Attributes")[kind.__name__]) == sorted([*fields, *properties])


def test_the_page_lists_the_errors_with_their_bases():
    found = {
        name: kind.__mro__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, (errors.DsoftmaxError, Warning))
    }
    assert set(table("Errors")) == set(found)
    for name, (base,) in table("Errors").items():
        assert base in [one.__name__ for one in found[name]]


def test_the_page_lists_the_types_and_signatures_name_them():
    for name in table("Types"):
        assert hasattr(dsoftmax.typing, name)
    likes = {"X": dsoftmax.typing.FeaturesLike, "y": dsoftmax.typing.ColumnLike}
    checked = 0
    for name, parameters in table("Parameters").items():
        hints = typing.get_type_hints(
            public(name).__init__ if inspect.isclass(public(name)) else public(name)
        )
        for parameter in parameters:
            if parameter in likes:
                assert hints[parameter] == likes[parameter], name
                checked += 1
        if "engine" in parameters:
            assert hints["engine"] == dsoftmax.typing.EngineLike
    assert checked > 10


@pytest.mark.parametrize("name", table("Contracts"))
def test_the_contracts_of_the_page_exist(name):
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))
