# SPDX-License-Identifier: Apache-2.0
"""The pages' blocks run, the examples do what they say, and the types are as the stubs have them."""

import hashlib
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import LIMIT, LONG

import gpuq
from gpuq import compat

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "python"


def run(*command, **options):
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=4 * LIMIT, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["docs/guide/python.md", "python/README.md", "README.md"])
def test_the_blocks_of_a_page_run(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    (tmp_path / "blocks.py").write_text("\n".join(blocks))
    strict = ("-W", "error", "-W", "ignore:The global interpreter lock:RuntimeWarning")  # see pyproject.toml
    run(*strict, tmp_path / "blocks.py", env={**os.environ, "GPUQ_CACHE_DIR": str(tmp_path)})


def test_hash_tree_prints_what_sha256sum_does(tmp_path):
    for i in range(100):
        path = tmp_path / str(i % 7) / f"{i:03}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(i * 37))
    lines = run(EXAMPLES / "hash_tree.py", tmp_path).splitlines()
    expected = sorted(p for p in tmp_path.glob("*/*"))
    assert lines == [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p}" for p in expected]


def test_vector_search_finds_what_numpy_finds():
    pytest.importorskip("numpy")
    assert "as NumPy finds them" in run(EXAMPLES / "vector_search.py", "--rows", 500, "--queries", 50)


def test_http_server_answers_its_load():
    assert "all answered right" in run(EXAMPLES / "http_server.py", "--load", "--connections", 16, "--requests", 20)


def test_follow_serves_a_command_s_output_to_early_and_late_clients():
    out = run(EXAMPLES / "follow.py", "--check", sys.executable, "-c", "print('x' * 299_999)")
    assert out == "6 clients got the same 300000 bytes\n"


def test_the_examples_and_the_stubs_pass_mypy(tmp_path):
    """The one that uses NumPy, whose stubs take a minute to read, in the long form only."""
    pytest.importorskip("mypy")
    folder = pathlib.Path(gpuq.__file__).parent
    examples = [path for path in sorted(EXAMPLES.glob("*.py")) if LONG or "numpy" not in path.read_text()]
    assert examples
    cache = os.path.join(os.environ.get("GPUQ_CACHE_DIR", tmp_path), "mypy")
    stubs = tmp_path / "gpuq"  # below site-packages mypy takes no files by name
    stubs.mkdir()
    for path in folder.glob("*.pyi"):
        (stubs / path.name).write_text(path.read_text())
    run("-m", "mypy", "--strict", "--cache-dir", cache, *examples, *sorted(stubs.glob("*.pyi")), cwd=tmp_path)


@pytest.mark.parametrize("module", [gpuq, compat], ids=["gpuq", "compat"])
def test_the_stubs_have_every_public_name(module):
    import ast

    folder = pathlib.Path(gpuq.__file__).parent
    stub = ast.parse((folder / ("__init__.pyi" if module is gpuq else "compat.pyi")).read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in classes if name[0] != "_"} | functions == set(module.__all__)
    for name, node in classes.items():
        if name[0] == "_" or node.name == "QueueStatus":
            continue
        for item in node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and item.name != "__buffer__":
                assert hasattr(getattr(module, name), item.name), f"{name}.{item.name}"


def test_everything_public_has_a_docstring():
    for name in gpuq.__all__:
        one = getattr(gpuq, name)
        assert inspect.getdoc(one), name
        for key, value in vars(one).items() if isinstance(one, type) else ():
            if key[0] != "_" and callable(value) and not issubclass(one, tuple):
                assert inspect.getdoc(getattr(one, key)), f"{name}.{key}"
