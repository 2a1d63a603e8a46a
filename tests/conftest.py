"""What the tests of the book share: running the builder, watching it, its site, a server and a browser for it."""

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from build import ROOT
from filelock import FileLock
from jaxtyping import install_import_hook
from playwright.sync_api import Error, sync_playwright

# Annotations of what takes and gives tensors, shapes among them, are checked at each call that a test makes.
install_import_hook(
    [f"bnutils.{name}" for name in ("folklore", "models", "norms", "probes", "theory")], "beartype.beartype"
)


def run_builder(*arguments: str | Path, root: Path = ROOT, cache: Path) -> subprocess.CompletedProcess:
    """book/build.py of this tree, or of a copy of it, with a cache of measured runs of its own."""
    command = [sys.executable, root / "book" / "build.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"BNUTILS_CACHE": str(cache)})


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> tuple[Path, str]:
    """The cache that `record smoke` filled, and what it said; one process of the tests measures for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    cache, said = shared / "recorded", shared / "recorded.txt"
    with FileLock(shared / "recorded.lock"):
        if not said.exists():
            command = [sys.executable, "-m", "bnutils", "record", "smoke"]
            environment = os.environ | {"BNUTILS_CACHE": str(cache)}
            run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
            assert (run.returncode, run.stderr) == (0, "")
            said.write_text(run.stdout)
    return cache, said.read_text()


@pytest.fixture(scope="session")
def built(tmp_path_factory, recorded) -> tuple[Path, Path]:
    """The output folder of the whole book at preset smoke, and its cache, which began with the recorded runs."""
    output, cache = tmp_path_factory.mktemp("book"), tmp_path_factory.mktemp("cache")
    shutil.copytree(recorded[0], cache, dirs_exist_ok=True)
    run = run_builder("--output", output, "-p", "preset", "smoke", cache=cache)
    assert run.returncode == 0, run.stdout + run.stderr
    return output, cache


def watch(process):
    """For each kernel that the process starts, in order: its seconds and the most memory of it and its children."""
    found = {}
    while process.poll() is None:
        try:
            for kernel in psutil.Process(process.pid).children():
                if "ipykernel_launcher" in " ".join(kernel.cmdline()):
                    family = [kernel, *kernel.children(recursive=True)]
                    # proportional: memory that two processes share counts once, as it does for Binder
                    memory = sum(member.memory_full_info().pss for member in family)
                    most = max(memory, found.get(kernel.pid, (0, 0))[1])
                    found[kernel.pid] = time.time() - kernel.create_time(), most
        except psutil.Error:  # one of them ended while it was looked at
            pass
        time.sleep(1)  # reading the memory map costs the runs time
    return list(found.values())


@pytest.fixture(scope="session")
def default_book(tmp_path_factory) -> tuple[Path, Path, list[tuple[float, int]]]:
    """Output folder and cache of the whole book at its default, built from an empty cache, and what `watch` saw."""
    output, cache = tmp_path_factory.mktemp("default"), tmp_path_factory.mktemp("cache")
    command = [sys.executable, ROOT / "book" / "build.py", "--output", output]
    with subprocess.Popen(command, env=os.environ | {"BNUTILS_CACHE": str(cache)}) as builder:
        kernels = watch(builder)
    assert builder.returncode == 0
    return output, cache, kernels


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(built) -> str:
    """Of a server on this machine that serves the built site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=built[0] / "html")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def launch(playwright):
    """A headless browser: $CHROMIUM, one on PATH, or playwright's own, which it fetches unless it has it."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if not found:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True)
    try:
        return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
    except Error as error:
        tried = found or "none on PATH, and `playwright install chromium` brought none"
        pytest.fail(f"no browser ({tried}): install Chromium or set CHROMIUM to one; {error.message.splitlines()[0]}")


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()
