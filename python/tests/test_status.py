# SPDX-License-Identifier: Apache-2.0
"""Every status of the library's header has its exception, its sentence and its place in the stubs."""

import ast
import inspect
import pathlib
import re

import pytest

import gpuq
from gpuq import _errors, _gpuq, compat

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include" / "gpuq" / "gpuq.h").read_text()
STATUSES = [
    (name, int(number), sentence)
    for name, number, sentence in re.findall(r'X\(Q_(\w+), (-?\d+), "([^"]+)"\)', HEADER)
]
ERRORS = [one for one in STATUSES if one[1] != 0]


def _stub(name, of):
    tree = ast.parse((pathlib.Path(gpuq.__file__).parent / name).read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == of)


def test_the_header_has_been_read():
    assert ("OK", 0, "ok") in STATUSES and len(ERRORS) >= 20
    assert [number for _, number, _ in STATUSES] == [-i for i in range(len(STATUSES))]


@pytest.mark.parametrize("name, number, sentence", ERRORS, ids=[one[0] for one in ERRORS])
def test_a_status_has_its_class_and_its_sentence(name, number, sentence):
    cls = _errors.by_status[number]
    words = name[len("ERR_") :]
    # Q_ERR_IO is the one that is not called as the status is.
    assert cls.__name__ == ("FileError" if words == "IO" else words.title().replace("_", "") + "Error")
    assert issubclass(cls, gpuq.Error) and cls.status == number
    assert getattr(gpuq, cls.__name__) is cls
    assert inspect.getdoc(cls) and inspect.getdoc(cls) != inspect.getdoc(cls.__mro__[1])
    assert _gpuq.status_string(number) == sentence
    assert compat.QueueStatus(number).name == name
    bases = [ast.unparse(base) for base in _stub("__init__.pyi", cls.__name__).bases]
    assert len(bases) == len(cls.__bases__) or cls is gpuq.TimeoutError  # which has two before Python 3.11


def test_no_two_statuses_have_one_class():
    assert len({_errors.by_status[number] for _, number, _ in ERRORS}) == len(ERRORS)
    assert set(_errors.by_status) == {number for _, number, _ in ERRORS}


def test_the_stub_of_the_older_bindings_statuses_has_them_all():
    body = _stub("compat.pyi", "QueueStatus").body
    assert {line.targets[0].id: ast.literal_eval(line.value) for line in body} == {
        name: number for name, number, _ in STATUSES
    }


@pytest.mark.parametrize("page", ["docs/guide/python.md"])
def test_the_guide_has_every_class(page):
    text = (ROOT / page).read_text()
    missing = [cls.__name__ for cls in _errors.by_status.values() if f"`{cls.__name__}`" not in text]
    assert not missing
