"""The workflows that publish the book and check its links: valid, safe to a linter, made of the Makefile's commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from build import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHECKERS = {
    "check-jsonschema": ["--builtin-schema", "vendor.github-workflows"],
    "zizmor": ["--offline", "--no-config", "--quiet"],
}


def check(name, *files):
    command = [Path(sys.executable).with_name(name), *CHECKERS[name], *files]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def jobs(request):
    """Of one workflow."""
    return yaml.safe_load(request.param.read_text())["jobs"]


@pytest.mark.parametrize("name", CHECKERS)
def test_the_checker_finds_nothing(name):
    run = check(name, *FILES)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("check-jsonschema", "runs-on:", "run-on:"),
        ("zizmor", r"@[0-9a-f]{40} # (v\d+)", r"@\1"),
        ("zizmor", "persist-credentials: false", "fetch-depth: 1"),
        ("zizmor", "contents: read", "contents: write"),
    ],
)
def test_the_checker_would_find_it(name, right, wrong, tmp_path):
    text, changes = re.subn(right, wrong, FILES[0].read_text())
    assert changes
    (tmp_path / "book.yml").write_text(text)
    assert check(name, tmp_path / "book.yml").returncode


def test_every_action_is_a_commit_with_its_version_beside_it():
    uses = [line for file in FILES for line in file.read_text().splitlines() if "uses:" in line]
    assert uses and all(re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in uses)


def test_only_what_publishes_may_write_and_only_from_main(jobs):
    for name, job in jobs.items():
        rights = {right for right, how in job.get("permissions", {}).items() if how != "read"}
        assert rights == ({"pages", "id-token"} if name == "publish" else set())
        assert name != "publish" or job["if"] == "github.ref == 'refs/heads/main'"


def test_every_step_is_a_command_of_the_makefile(jobs):
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for step in steps:
        found = re.fullmatch(r"make (\w+)( .*)?", step)
        assert found and f"\n{found[1]}:" in (ROOT / "Makefile").read_text(), step
