"""What Binder does with .binder/: install it in a clean copy, start JupyterLab there, run each chapter in a browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread
from urllib.request import urlopen

import nbformat
import psutil
import pytest
from build import ROOT
from conftest import watch
from test_book import CHAPTERS

LIMIT = 2 * 2**30  # what Binder grants, and says in an environment variable
RUN_ALL = """async () => {
    const { commands, shell } = jupyterapp
    const { context, sessionContext } = shell.currentWidget
    await Promise.all([context.ready, sessionContext.ready])
    await commands.execute("notebook:run-all-cells")
    await commands.execute("docmanager:save")
    await sessionContext.shutdown()
    return true
}"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The folder of a clean copy, and that of the commands which Binder would install for it."""
    folder = tmp_path_factory.mktemp("binder")
    repository, environment = folder / "repository", folder / "environment"
    ignored = (ROOT / ".gitignore").read_text().replace("/", "").split()
    shutil.copytree(ROOT, repository, ignore=shutil.ignore_patterns(".git", *ignored))
    requirements = repository / ".binder" / "requirements.txt"
    # the builds for a CPU have an index of their own, which may be out of reach: the same versions from the usual one
    requirements.write_text(re.sub(r"^--extra-index-url .*\n|\+cpu$", "", requirements.read_text(), flags=re.MULTILINE))
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install = [environment / "bin" / "pip", "install", "--quiet", "--requirement", requirements]
    subprocess.run(install, cwd=repository, check=True)
    yield repository, environment / "bin"
    shutil.rmtree(folder)  # gigabytes


def start(repository, commands, home, cache):
    """JupyterLab as somebody runs it who has nothing else; the process, and the address of its page."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [commands / "jupyter-lab", "--no-browser", "--allow-root", "--expose-app-in-browser", f"--port={port}"]
    mine = {"PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(home), "BNUTILS_CACHE": str(cache)}
    mine |= {"JUPYTER_TOKEN": "of-this-test", "MEM_LIMIT": str(LIMIT)}
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, cwd=repository, env=mine, stdout=log, stderr=log)
    for _ in range(120):
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api"):
            return server, f"http://127.0.0.1:{port}/lab/tree/{{}}?reset&token=of-this-test"
        time.sleep(1)
    server.kill()
    pytest.fail(f"no JupyterLab: {(home / 'log').read_text()}")


@pytest.mark.slow
def test_every_chapter_runs_as_the_launched_notebook(checkout, default_book, browser, tmp_path):
    """At its default parameters, without an error; kernel, its children and the server in less than Binder's limit.

    What was measured for the default book is read, so that this takes minutes; what measuring takes is held there.
    """
    repository, commands = checkout
    server, address = start(repository, commands, tmp_path, default_book[1])
    kernels = []
    watcher = Thread(target=lambda: kernels.extend(watch(server)))
    watcher.start()
    try:
        for chapter in CHAPTERS:
            page = browser.new_page()
            page.set_default_timeout(120_000)  # for JupyterLab to open, on a machine that is busy with something else
            page.goto(address.format(f"{chapter}.ipynb"))
            page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext")
            page.wait_for_function(RUN_ALL, timeout=600_000)  # a kernel that stops answering shall not stop the test
            page.close()
            ran = [cell for cell in nbformat.read(repository / f"{chapter}.ipynb", 4).cells if cell.cell_type == "code"]
            assert not [out for cell in ran for out in cell.outputs if out.output_type == "error"], chapter
            assert all(cell.execution_count for cell in ran), chapter
        lab = psutil.Process(server.pid).memory_full_info().pss
    finally:
        server.terminate()
        server.wait()
        watcher.join()
    for chapter, (seconds, memory) in zip(CHAPTERS, kernels, strict=True):
        print(f"{chapter} in Binder: {seconds:.0f} s, at most {(memory + lab) / 2**30:.2f} GiB")
        assert memory + lab < LIMIT
