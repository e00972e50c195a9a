"""What can be shown of a Space without one: app.py started as there, an engine in a forked worker, the upload.

The slow test installs requirements.txt anew, as a Space does, and so needs a package index.

What only a real Space can prove is listed in deploy/README.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import pytest
import yaml
from conftest import ADAPTER, BASE, MOTTO

from bench.shared.served import free_port
from deploy import space as upload
from deploy.space import BadSpace, check_front_matter, files_of_a_space

ROOT = Path(__file__).resolve().parent.parent
STARTING = 240  # seconds that a busy machine may take; a Space allows 30 minutes
INSTALLING = 900  # the same, for what requirements.txt brings
# Every key of huggingface.co/docs/hub/spaces-config-reference, and `license`, which all repositories of the hub have.
KEYS = set("title emoji colorFrom colorTo sdk python_version sdk_version suggested_hardware suggested_storage app_file "
           "app_build_command app_port base_path fullWidth header short_description models datasets tags thumbnail "
           "pinned hf_oauth hf_oauth_scopes hf_oauth_expiration_minutes hf_oauth_authorized_org disable_embedding "
           "startup_duration_timeout custom_headers preload_from_hub license".split())
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# What stands for ZeroGPU: its worker is forked from the process that loaded the model, once for each call. A thread
# pool does not survive a fork, so the worker computes with one thread, as torch's own forked data workers do.
WORKER = """
import json, os, sys, torch
from compare.engine.answers import compare
from compare.engine.interface import Question, Sampling
from compare.engine.local import LocalEngine

def answers(engine):
    *_, columns = compare(engine, Question(sys.argv[3]), sampling=Sampling(max_new_tokens=24))
    return [[c.token_ids, c.finish_reason] for c in columns]

engine = LocalEngine(sys.argv[1], sys.argv[2], device="cpu")
before = answers(engine)
parent_thread = engine.thread.thread.name
read, write = os.pipe()
if (worker := os.fork()) == 0:
    torch.set_num_threads(1)
    said = {"answers": answers(engine), "running": engine.thread.running()}
    os.write(write, json.dumps(said).encode())
    os._exit(0)
os.close(write)
with os.fdopen(read, "rb") as pipe:
    said = json.loads(pipe.read())
os.waitpid(worker, 0)
print(json.dumps({"before": before, "worker": said, "after": answers(engine), "thread": parent_thread}))
"""


def tree_without_git(target: Path) -> Path:
    """What `make space` uploads, and no more."""
    for name in files_of_a_space(ROOT):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target


def get(url: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read()


def front_matter() -> dict:
    head = upload.FRONT_MATTER.match((ROOT / "README.md").read_text(encoding="utf-8"))
    assert head
    return yaml.safe_load(head[1])


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory) -> Path:
    """The interpreter of a new environment that has the Space's Gradio, requirements.txt and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                           f"gradio=={front_matter()['sdk_version']}", "-r", ROOT / "requirements.txt"],
                          capture_output=True, text=True, timeout=INSTALLING)
    assert done.returncode == 0, done.stderr[-2000:]
    return python


@pytest.fixture
def address(tmp_path, clean_python):
    """app.py in a copy of the tree, in a clean environment, with a Space's variables and none of ours; its address."""
    port = free_port()
    (tmp_path / "home").mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "SYSTEM": "spaces", "SPACE_ID": "owner/name",
           "SPACE_HOST": "owner-name.hf.space", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port),
           "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen([clean_python, "app.py"], cwd=tree_without_git(tmp_path / "tree"), env=env,
                              stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(2 * STARTING):
            try:
                get(url + "/")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text(errors="replace")
                time.sleep(0.5)
        else:
            pytest.fail(f"no page after {STARTING} s: {(tmp_path / 'log').read_text(errors='replace')}")
        yield url
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.mark.slow
def test_app_starts_as_on_a_space_and_answers(address):
    from gradio_client import Client

    assert get(address + "/")[0] == 200
    config = json.loads(get(address + "/config")[1])
    assert config["space_id"] == "owner/name"
    result = Client(address, verbose=False).predict(question=MOTTO, max_new_tokens=8, api_name="/compare")
    assert [c["variant"] for c in result["columns"]] == ["base", "lens"]
    assert all(c["token_ids"] for c in result["columns"])


@pytest.mark.slow  # in `make test`: test_zero_gpu.py, whose workers are forked too
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, and no ZeroGPU either")
def test_a_forked_worker_answers_as_its_parent_does():
    done = subprocess.run([sys.executable, "-c", WORKER, str(BASE), str(ADAPTER), MOTTO], cwd=ROOT,
                          capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["worker"]["answers"] == said["before"] == said["after"]
    assert said["thread"] == "model" and said["worker"]["running"] is False  # the worker has no such thread
    base, adapted = said["before"]
    assert base[0] and adapted[0] and base[0] != adapted[0]


def test_a_space_gets_what_runs_and_nothing_that_a_run_left_behind(tmp_path):
    here = set(files_of_a_space(ROOT))
    assert {"app.py", "README.md", "requirements.txt", "assets/base/model.safetensors",
            "compare/engine/local.py"} <= here
    assert not [name for name in here if name.split("/")[0] in ("tests", "bench", "deploy", "runs", ".venv", ".git")]
    for name in ("app.py", "compare/a.py", "compare/__pycache__/a.pyc", "assets/adapters/x/checkpoint-1/optimizer.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_of_a_space(tmp_path) == ["app.py", "compare/a.py"]


def test_the_front_matter_has_only_what_a_space_documents_and_the_locked_gradio():
    head = front_matter()
    assert set(head) <= KEYS, f"not documented: {set(head) - KEYS}"
    assert head["colorFrom"] in COLORS and head["colorTo"] in COLORS
    assert len(head["short_description"]) <= 60 and head["suggested_hardware"] == "cpu-basic"
    assert isinstance(head["python_version"], str), "3.10 without quotes would be read as 3.1"
    assert (ROOT / head["app_file"]).is_file()
    assert f"gradio=={head['sdk_version']}" in (ROOT / "requirements.lock").read_text().splitlines()


@pytest.mark.parametrize("readme, said", [
    ("# LoRA Lens\n", "sdk is missing"),
    ("---\nsdk: docker\napp_file: app.py\n---\n", "sdk is docker"),
    ("---\nsdk: gradio\n---\n", "app_file is missing"),
], ids=["none", "another sdk", "no file"])
def test_a_readme_that_no_space_can_read_is_refused(readme, said):
    check_front_matter("---\ntitle: LoRA Lens\nsdk: gradio\napp_file: app.py\n---\n# LoRA Lens\n")
    with pytest.raises(BadSpace, match=said):
        check_front_matter(readme)


class Hub:
    """Stands for huggingface_hub.HfApi: remembers what it was asked."""

    asked: list[tuple[str, dict]] = []

    def create_repo(self, name, **options):
        self.asked.append(("create", {"name": name, **options}))
        return f"https://hub/{name}"

    def add_space_variable(self, name, key, value):
        self.asked.append(("variable", {key: value}))

    def upload_folder(self, **options):
        self.asked.append(("upload", options))


class ClosedHub(Hub):
    def create_repo(self, name, **options):
        raise OSError("no route to host\nmore lines")


def test_make_space_makes_it_sets_its_variables_and_uploads(monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(upload, "check_front_matter", lambda readme: None)
    Hub.asked.clear()
    assert upload.main(["me/lens", "--base", "bigscience/bloom-1b1", "--adapter", "me/mine"]) == 0
    assert capsys.readouterr().out.strip() == "https://hub/me/lens"
    (_, made), *variables, (_, sent) = Hub.asked
    assert (made["repo_type"], made["space_sdk"], made["exist_ok"]) == ("space", "gradio", True)
    assert variables == [("variable", {"BASE_MODEL": "bigscience/bloom-1b1"}), ("variable", {"ADAPTER": "me/mine"})]
    assert sent["repo_type"] == "space" and "app.py" in sent["allow_patterns"]


@pytest.mark.parametrize("args, said", [(["no-owner"], "allowed: OWNER/NAME"), (["me/lens"], "no route to host;")])
def test_an_upload_that_cannot_be_is_one_sentence(monkeypatch, capsys, args, said):
    monkeypatch.setattr("huggingface_hub.HfApi", ClosedHub)
    monkeypatch.setattr(upload, "check_front_matter", lambda readme: None)
    assert upload.main(args) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and said in told and told.count("\n") == 1
