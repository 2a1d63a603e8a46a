"""Who may import whom: the frame is the waist, so what measures never loads what draws, and the other way round."""

import ast
import subprocess
import sys

import pytest
from build import ROOT

# module -> the modules of the package that it may import; quantities, which imports nothing, is open to all
ALLOWED = {
    "__init__": set(),
    "quantities": set(),
    "seeds": set(),
    "data": {"seeds"},
    "norms": {"seeds"},
    "models": {"norms", "seeds"},
    "probes": {"norms", "seeds"},  # a probe freezes the noise, which is a norm
    "theory": {"seeds"},
    "folklore": {"norms", "probes", "seeds"},  # wrong beside right, on the same noise
    "train": {"data", "seeds"},
    "linear": {"data", "models", "norms", "seeds", "train"},
    "presets": {
        "linear",
        "data",
        "models",
        "norms",
        "seeds",
        "train",
    },  # a setting is checked against all that it configures
    "store": {"data"},
    "instruments": {"data", "folklore", "models", "norms", "presets", "probes", "seeds", "theory", "train"},
    "records": {"data", "instruments", "linear", "norms", "presets", "seeds", "store", "theory", "train"},
    "executor": {"data", "store", "train"},
    "runs": {"data", "executor", "presets", "records", "store"},
    "verify": {"data", "presets", "records", "store", "train"},
    "claims": set(),
    "plots": set(),
    "widgets": {"plots"},
}
SHOWING = ["claims", "plots", "widgets"]
MEASURING = sorted(set(ALLOWED) - {*SHOWING, "__init__"})
FORBIDDEN = {name: {"torch", "torchvision"} for name in SHOWING}
FORBIDDEN |= {name: {"matplotlib", "seaborn", "ipywidgets"} for name in [*MEASURING, "__init__"]}
MODULES = {path.stem: path for path in sorted((ROOT / "bnutils").glob("*.py")) if path.stem != "__main__"}


def imports(source: str) -> set[str]:
    """Every module that the source imports, at whatever depth: dotted names, those of the package as bnutils.name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["bnutils" if node.level else "", node.module]))
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "bnutils" else {module}
    return found


def crossings(name: str, source: str) -> set[str]:
    """The imports of the source that module `name` must not have."""
    found = imports(source)
    inside = {module.split(".")[1] for module in found if module.startswith("bnutils.")}
    return (inside - ALLOWED[name] - {"quantities"}) | ({module.split(".")[0] for module in found} & FORBIDDEN[name])


@pytest.mark.parametrize("name", MODULES)
def test_imports_stay_in_their_layer(name):
    assert name in ALLOWED, f"bnutils/{name}.py has no row in ALLOWED: say there what it may import"
    assert not crossings(name, MODULES[name].read_text())


@pytest.mark.parametrize(
    ("name", "source", "crossing"),
    [
        ("claims", "import torch", "torch"),
        ("plots", "from torch import nn", "torch"),
        ("widgets", "from bnutils import runs", "runs"),
        ("runs", "def late():\n    from matplotlib import pyplot", "matplotlib"),
        ("train", "from . import plots", "plots"),
        ("quantities", "from bnutils.data import load", "data"),
    ],
)
def test_a_crossing_is_seen(name, source, crossing):
    assert crossings(name, source) == {crossing}


@pytest.mark.parametrize("side", [SHOWING, MEASURING], ids=["showing", "measuring"])
def test_one_side_never_loads_the_other(side):
    """Also through a third module: what is in memory counts."""
    names = [name for name in side if name in MODULES]
    code = f"import sys; from bnutils import {', '.join(names)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert not FORBIDDEN[side[0]] & set(run.stdout.split())
