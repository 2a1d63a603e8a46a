"""Three files say what is installed: requirements.txt to be read, its lock, and what Binder installs. They agree."""

import re
from importlib.metadata import distributions
from pathlib import Path

from build import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BINDER = ROOT / ".binder" / "requirements.txt"


def pins(file: Path) -> dict[str, str]:
    """The version of each package that the file asks for on this machine; empty where it leaves the version open."""
    found = [Requirement(line) for line in file.read_text().splitlines() if re.match(r"\w", line)]
    here = [each for each in found if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in here}


READABLE, LOCKED = pins(ROOT / "requirements.txt"), pins(ROOT / "requirements.lock")


def test_the_lock_has_every_requirement_at_its_version():
    assert READABLE.items() <= LOCKED.items(), "make lock"


def test_what_is_installed_is_what_is_locked():
    installed = {canonicalize_name(each.name): each.version.partition("+")[0] for each in distributions()}
    del installed["bnutils"]
    installed.pop("pip", None)  # it installs the others
    assert installed.items() <= LOCKED.items(), installed.items() - LOCKED.items()


def test_the_lock_names_no_place():
    """A package by its name and version alone comes from wherever pip is told to look."""
    assert not re.search(r"://|@|^[-/]", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_binder_installs_what_the_book_is_built_with():
    """Of torch the builds for a CPU, everything else as the lock says."""
    binder = pins(BINDER)
    assert {name: version for name, version in binder.items() if version} == {
        name: f"{READABLE[name]}+cpu" for name in ("torch", "torchvision")
    }
    assert binder.keys() <= READABLE.keys()
    assert {"--constraint ../requirements.lock", "-e ."} <= set(BINDER.read_text().splitlines())
