"""JupyterLab, really started: a notebook opened over REST, run to its end over the WebSocket."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import requests
import websocket

ROOT = Path(__file__).resolve().parent.parent
TOKEN = uuid.uuid4().hex
SECONDS = 300


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a running JupyterLab, on a port of its own choice, over the book's folder."""
    runtime = tmp_path_factory.mktemp("runtime")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.port=0", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={ROOT}"]
    command += [f"--IdentityProvider.token={TOKEN}"]
    environment = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "CHEXLIB_DATA": str(runtime / "nothing-fetched"),
    }
    with (runtime / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not (found := list(runtime.glob("jpserver-*.json"))):
            assert process.poll() is None, (runtime / "log").read_text()
            assert time.monotonic() < deadline, (runtime / "log").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"].rstrip("/")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def rest(lab):
    """Return a function that asks the server's interface and gives back its answer."""

    def ask(method, where, **body):
        answer = requests.request(
            method,
            f"{lab}/api/{where}",
            headers={"Authorization": f"token {TOKEN}"},
            json=body or None,
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    return ask


def run_cell(connection, source):
    """Execute one cell on a kernel's WebSocket; return its outputs once the kernel is idle."""
    identifier = uuid.uuid4().hex
    header = {"msg_id": identifier, "msg_type": "execute_request", "version": "5.3"}
    header |= {"username": "test", "session": TOKEN, "date": ""}
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
    connection.send(
        json.dumps(
            {
                "channel": "shell",
                "header": header,
                "parent_header": {},
                "metadata": {},
                "content": content,
            }
        )
    )
    outputs = []
    while True:
        message = json.loads(connection.recv())
        if message["parent_header"].get("msg_id") != identifier:
            continue
        kind = message["header"]["msg_type"]
        if kind in ("stream", "display_data", "execute_result", "error"):
            outputs.append((kind, message["content"]))
        if kind == "status" and message["content"]["execution_state"] == "idle":
            return outputs


def test_the_page_of_jupyterlab_is_served(lab):
    answer = requests.get(f"{lab}/lab", params={"token": TOKEN}, timeout=60)
    assert answer.ok
    assert "jupyter-config-data" in answer.text


def test_a_notebook_runs_to_its_end(lab, rest):
    path = ROOT / "book/01_dataset.ipynb"
    notebook = rest("GET", f"contents/book/{path.name}")["content"]
    session = rest(
        "POST",
        "sessions",
        path=f"book/{path.name}",
        name=path.name,
        type="notebook",
        kernel={"name": notebook["metadata"]["kernelspec"]["name"]},
    )
    kernel = session["kernel"]["id"]
    connection = websocket.create_connection(
        f"{lab.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?token={TOKEN}",
        timeout=SECONDS,
    )
    try:
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert cells
        for cell in cells:
            outputs = run_cell(connection, cell["source"])
            assert "error" not in dict(outputs), outputs
            assert bool(outputs) == bool(cell["outputs"]), cell["source"]
    finally:
        connection.close()
        rest("DELETE", f"sessions/{session['id']}")
