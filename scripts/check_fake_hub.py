"""Drives the fake Hub of crates/testkit with the official client, and compares every byte.

    python check_fake_hub.py FAKE_HUB [--xet LOCAL_CAS_SERVER] [--only PART]

It runs with whatever huggingface_hub its Python has; check_fake_hub.sh runs it with two versions. What the fake gets wrong,
the client finds: it parses every answer into its own types and raises its own errors by the codes in the headers.

How the versions differ, as seen here:

- 0.36 always uses https://huggingface.co for Jobs (create and logs), whatever HF_ENDPOINT says; its constants are patched
  for that part. 2.4 uses the endpoint.
- 0.36 says `private` when it makes or changes a repository, 2.4 `visibility`.
- 0.36 sends `direction` with a sorted search, 2.4 does not know it any more (the Hub sorts from the top by itself).
- 0.36 has `upload_large_folder`, which commits in pieces; in 2.4 `upload_folder` does that by itself.
- 2.4 compares the `oid`s that `preupload` tells with those of its own files, and leaves out what has not changed.
- After a plain end that comes too early 2.4 goes on by itself, by Range; after a reset it gives up, and begins anew when it is
  called again. 0.36 gives up after both, and goes on when it is called again. Both keep whole chunks of 10 MiB only. 2.4 waits after a 429 as `Retry-After` or `RateLimit` say, 0.36 does in few places.
- 2.4 follows redirects of a HEAD within a host, and takes the last answer's headers: large files must be on another one.
- 2.4 logs in by device codes; 0.36 takes tokens only.
- With hf_xet, 2.4 goes to the Xet store without an LFS batch, so that large uploads fail at a Hub without Xet; 0.36 asks the
  batch, and goes where its `transfer` says.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("fake_hub", type=Path, help="the program, as cargo builds it")
parser.add_argument("--xet", type=Path, help="local_cas_server of the crate xet-client; without it Xet is left out")
parser.add_argument("--only", help="only this part")
arguments = parser.parse_args()

home = Path(tempfile.mkdtemp(prefix="fake-hub-"))
os.environ.update(HF_HOME=str(home / "hf"), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_XET_CACHE=str(home / "xet"))
os.environ.pop("HF_HUB_OFFLINE", None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Every Hub here has this address, one after another: parts of the client know no other than that of the environment.
PORT = free_port()
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{PORT}", HF_TOKEN="hf_writer")
if arguments.only != "xet":
    # 2.4 would fail at a Hub without Xet.
    os.environ["HF_HUB_DISABLE_XET"] = "1"

import huggingface_hub  # noqa: E402  (it reads the environment)
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, constants  # noqa: E402
from huggingface_hub import errors, hf_hub_download, snapshot_download  # noqa: E402

MAJOR = int(huggingface_hub.__version__.split(".")[0])
HfHubHTTPError = errors.HfHubHTTPError
draws = random.Random(15)


class Hub:
    """A running fake Hub."""

    def __init__(self, *options: str) -> None:
        self.requests_file = home / f"requests-{draws.random()}.jsonl"
        command = [arguments.fake_hub, "--requests", self.requests_file, "--stdin", "--port", PORT, *TOKENS, *options]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint.startswith("http://"), "the fake Hub did not start"

    def api(self, token: str | bool | None = "hf_writer") -> HfApi:
        return HfApi(endpoint=self.endpoint, token=token)

    def requests(self) -> list[dict]:
        return [json.loads(line) for line in self.requests_file.read_text().splitlines()]

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0


TOKENS = ["--token", "hf_writer:ada:write", "--token", "hf_reader:ada:read", "--token", "hf_other:bob:write", "--member", "lab:ada"]


@contextlib.contextmanager
def hub(*options: str):
    running = Hub(*options)
    try:
        yield running
    finally:
        running.close()


def expect(error: type[Exception], action, status: int | None = None) -> None:
    try:
        action()
    except error as found:
        if status is not None:
            assert found.response.status_code == status, f"expected {status}, found {found.response.status_code}"
        return
    raise AssertionError(f"expected {error.__name__}")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fresh(name: str) -> Path:
    folder = home / f"{name}-{draws.randrange(10**9)}"
    folder.mkdir()
    return folder


def download(running: Hub, repo: str, kind: str = "model", revision: str | None = None) -> dict[str, bytes]:
    api = running.api()
    files = read(Path(api.snapshot_download(repo, repo_type=kind, revision=revision, local_dir=fresh("down"))))
    files.pop(".gitattributes", None)
    return files


def check_accounts() -> None:
    with hub() as running:
        who = running.api().whoami()
        assert who["name"] == "ada" and [org["name"] for org in who["orgs"]] == ["lab"], who
        assert who["auth"]["accessToken"]["role"] == "write"
        expect(Exception, lambda: running.api("hf_wrong").whoami())
        expect(HfHubHTTPError, lambda: running.api("hf_reader").create_repo("ada/x"), 403)
        expect(HfHubHTTPError, lambda: running.api("hf_other").create_repo("ada/x"), 403)
        expect(HfHubHTTPError, lambda: running.api(False).create_repo("ada/x"), 401)


def check_repositories() -> None:
    with hub() as running:
        api = running.api()
        url = api.create_repo("ada/act", private=True)
        assert url.repo_id == "ada/act" and str(url) == f"{running.endpoint}/ada/act", url
        expect(HfHubHTTPError, lambda: api.create_repo("ada/act"), 409)
        api.create_repo("ada/act", exist_ok=True)
        api.create_repo("lab/page", repo_type="space", space_sdk="static")
        assert api.space_info("lab/page").sdk == "static"
        assert api.get_space_runtime("lab/page").stage == "RUNNING"
        assert api.repo_exists("ada/act") and not api.repo_exists("ada/none")
        assert running.api(False).repo_exists("ada/act") is False
        expect(errors.RepositoryNotFoundError, lambda: running.api(False).model_info("ada/act"), 401)
        expect(errors.RepositoryNotFoundError, lambda: running.api("hf_other").model_info("ada/act"), 404)
        expect(errors.RepositoryNotFoundError, lambda: api.dataset_info("ada/act"), 404)
        api.update_repo_settings("ada/act", private=False, gated="manual")
        info = running.api(False).model_info("ada/act")
        assert info.gated == "manual" and info.private is False, info
        expect(errors.GatedRepoError, lambda: running.api(False).hf_hub_download("ada/act", ".gitattributes"), 401)
        expect(errors.GatedRepoError, lambda: running.api("hf_other").auth_check("ada/act"), 403)
        api.auth_check("ada/act")
        api.update_repo_settings("ada/act", gated=False)
        api.move_repo("ada/act", "lab/act")
        assert running.api(False).model_info("ada/act").id == "lab/act"
        assert Path(running.api(False).hf_hub_download("ada/act", ".gitattributes", cache_dir=fresh("cache"))).exists()
        api.delete_repo("lab/act")
        expect(errors.RepositoryNotFoundError, lambda: api.delete_repo("lab/act"), 404)


CARD = b"---\nlicense: apache-2.0\nlibrary_name: lerobot\npipeline_tag: robotics\ntags:\n- act\n- so101\ndatasets: ada/pick\n---\n# ACT\n"


def tree_of(size: int) -> dict[str, bytes]:
    return {
        "README.md": CARD,
        "config.json": b'{"type": "act"}',
        "empty.txt": b"",
        "model.safetensors": draws.randbytes(size),
        "data/chunk-000/file-000.parquet": draws.randbytes(3000),
        "data/odd name, 100% #1?.txt": "grüße".encode(),
        "deep/er/and/deeper.json": b"[]",
    }


def check_files() -> None:
    """Small files, LFS basic and LFS multipart, up and down, in every way that there is."""
    with hub("--multipart-from", "100000", "--part", "30000", "--page", "3") as running:
        api = running.api()
        api.create_repo("ada/act")
        files = tree_of(250_001)
        first = api.upload_folder(repo_id="ada/act", folder_path=write(fresh("up"), files), commit_message="All", commit_description="of it")
        assert api.upload_file(path_or_fileobj=b"x" * 99, path_in_repo="late.bin", repo_id="ada/act").oid != first.oid
        files["late.bin"] = b"x" * 99
        assert download(running, "ada/act") == files
        parts = [request for request in running.requests() if request["path"].startswith("/upload/part/")]
        assert len(parts) == 9 and sum(request["received"] for request in parts) == 250_001, len(parts)
        assert any(request["path"].startswith("/upload/object/") for request in running.requests())
        leaked = [request for request in running.requests() if request["host"].startswith("127.0.0.2") and request["authorized"]]
        assert not leaked, leaked

        before = len(running.requests())
        api.upload_folder(repo_id="ada/act", folder_path=write(fresh("up"), files))
        again = [request for request in running.requests()[before:] if request["path"].startswith("/upload/")]
        assert not again, "what the Hub has was sent again"

        listed = {entry.path: entry for entry in api.list_repo_tree("ada/act", recursive=True, expand=True) if hasattr(entry, "blob_id")}
        assert set(listed) == {*files, ".gitattributes"}
        for path, content in files.items():
            entry = listed[path]
            assert entry.size == len(content), entry
            if entry.lfs:
                assert entry.lfs.sha256 == hashlib.sha256(content).hexdigest(), entry
            else:
                assert entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), entry
            assert entry.last_commit.title, entry
        assert listed["model.safetensors"].lfs and listed["late.bin"].lfs and not listed["config.json"].lfs
        top = [entry.path for entry in api.list_repo_tree("ada/act", "data")]
        assert sorted(top) == ["data/chunk-000", "data/odd name, 100% #1?.txt"], top
        found = api.get_paths_info("ada/act", ["data", "config.json", "none"], expand=True)
        assert sorted(entry.path for entry in found) == ["config.json", "data"], found
        expect(errors.EntryNotFoundError, lambda: list(api.list_repo_tree("ada/act", "none")))
        assert api.file_exists("ada/act", "config.json") and not api.file_exists("ada/act", "none.json")
        expect(errors.EntryNotFoundError, lambda: api.hf_hub_download("ada/act", "none.json"), 404)
        expect(errors.RevisionNotFoundError, lambda: api.hf_hub_download("ada/act", "config.json", revision="none"), 404)
        if MAJOR >= 1:
            where = snapshot_download("ada/act", local_dir=fresh("verify"), endpoint=running.endpoint, token="hf_writer")
            verified = api.verify_repo_checksums("ada/act", local_dir=where)
            assert verified.checked_count == len(files) + 1 and not verified.mismatches, verified

        info = api.model_info("ada/act", files_metadata=True)
        assert info.sha == api.list_repo_commits("ada/act")[0].commit_id
        assert info.library_name == "lerobot" and info.pipeline_tag == "robotics" and info.card_data.license == "apache-2.0", info
        assert {"act", "so101", "license:apache-2.0", "dataset:ada/pick"} <= set(info.tags), info.tags
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
        assert sizes == {**{path: len(content) for path, content in files.items()}, ".gitattributes": sizes[".gitattributes"]}


def check_commits() -> None:
    with hub() as running:
        api = running.api()
        api.create_repo("ada/pick", repo_type="dataset")
        add = lambda path, content: CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)  # noqa: E731
        commit = lambda operations, **more: api.create_commit(  # noqa: E731
            "ada/pick", operations, commit_message="change", repo_type="dataset", **more
        )
        first = commit([add("a.txt", b"1"), add("folder/b.bin", b"2" * 10), add("folder/c.txt", b"3")]).oid
        second = commit([add("a.txt", b"11")], parent_commit=first).oid
        expect(HfHubHTTPError, lambda: commit([add("a.txt", b"111")], parent_commit=first), 412)
        commit([CommitOperationCopy(src_path_in_repo="folder/b.bin", path_in_repo="copy.bin")])
        commit([CommitOperationDelete(path_in_repo="folder/", is_folder=True)])
        api.delete_file("a.txt", "ada/pick", repo_type="dataset")
        assert download(running, "ada/pick", "dataset") == {"copy.bin": b"2" * 10}
        assert download(running, "ada/pick", "dataset", second)["a.txt"] == b"11"
        expect(HfHubHTTPError, lambda: api.delete_file("a.txt", "ada/pick", repo_type="dataset"), 404)

        api.create_tag("ada/pick", tag="v3.0", revision=second, repo_type="dataset")
        api.create_branch("ada/pick", branch="try/this", revision=first, repo_type="dataset")
        expect(HfHubHTTPError, lambda: api.create_tag("ada/pick", tag="v3.0", repo_type="dataset"), 409)
        expect(HfHubHTTPError, lambda: api.create_branch("ada/pick", branch="try/this", repo_type="dataset"), 409)
        refs = api.list_repo_refs("ada/pick", repo_type="dataset")
        assert {ref.name: ref.target_commit for ref in refs.tags} == {"v3.0": second}
        assert {ref.name for ref in refs.branches} == {"main", "try/this"}
        assert {ref.ref for ref in refs.branches} == {"refs/heads/main", "refs/heads/try/this"}
        api.upload_file(path_or_fileobj=b"4", path_in_repo="d.txt", repo_id="ada/pick", repo_type="dataset", revision="try/this")
        assert download(running, "ada/pick", "dataset", "try/this") == {"a.txt": b"1", "folder/b.bin": b"2" * 10, "folder/c.txt": b"3", "d.txt": b"4"}
        assert download(running, "ada/pick", "dataset", "v3.0")["a.txt"] == b"11"
        api.delete_tag("ada/pick", tag="v3.0", repo_type="dataset")
        api.delete_branch("ada/pick", branch="try/this", repo_type="dataset")
        assert not api.list_repo_refs("ada/pick", repo_type="dataset").tags
        commits = api.list_repo_commits("ada/pick", repo_type="dataset")
        assert [commit.title for commit in commits][-1] == "initial commit" and commits[0].authors == ["ada"]
        expect(errors.RepositoryNotFoundError, lambda: api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id="ada/none"), 404)
        reader = running.api("hf_reader")
        expect(HfHubHTTPError, lambda: reader.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ada/pick", repo_type="dataset"), 403)


def check_search() -> None:
    root = fresh("root")
    for number in range(7):
        tags = "so101" if number % 2 else "koch"
        write(root / "models" / "ada" / f"act-{number}", {"README.md": f"---\nlicense: mit\ntags:\n- {tags}\n---\n".encode()})
        write(root / "datasets" / "bob" / f"pick-{number}", {"README.md": b"---\ntask_categories:\n- robotics\n---\n", "a.parquet": b"PAR1"})
    with hub("--root", str(root), "--page", "2", "--private", "model:ada/act-6") as running:
        api = running.api(False)
        assert len(list(api.list_models())) == 6 and len(list(running.api().list_models())) == 7
        assert sorted(model.id for model in api.list_models(filter="so101")) == ["ada/act-1", "ada/act-3", "ada/act-5"]
        assert [model.id for model in api.list_models(search="ACT-3")] == ["ada/act-3"]
        assert not list(api.list_models(author="bob"))
        assert len(list(api.list_models(limit=3))) == 3
        assert not list(api.list_models(filter=["koch", "license:apache-2.0"]))
        assert len(list(api.list_models(filter=["koch", "license:mit"]))) == 3
        assert len(list(api.list_datasets(author="bob", task_categories="robotics"))) == 7
        assert len(list(api.list_datasets(filter="format:parquet", sort="downloads"))) == 7
        first = next(iter(api.list_models(full=True, cardData=True)))
        assert first.card_data.license == "mit" and first.siblings, first
        for _ in range(3):
            snapshot_download("ada/act-4", endpoint=running.endpoint, local_dir=fresh("down"), token=False)
        assert next(iter(api.list_models(sort="downloads"))).id == "ada/act-4"
        narrow = api.model_info("ada/act-4", expand=["downloads", "likes"])
        assert narrow.downloads > 0 and narrow.siblings is None, narrow
        assert not list(api.list_spaces())


def check_resume() -> None:
    content = draws.randbytes(33_000_000)
    faults = [
        {"path": "/cdn/*", "times": 1, "harm": {"kind": "cut_answer", "at": 22_000_000}},
        {"path": "/cdn/*", "skip": 1, "times": 1, "harm": {"kind": "cut_answer", "at": 11_000_000, "reset": True}},
    ]
    root = fresh("root")
    write(root / "models/ada/act", {"model.safetensors": content, "a.json": b"{}"})
    with hub("--root", str(root), "--faults", json.dumps(faults)) as running:
        cache = fresh("cache")
        for calls in range(1, 4):
            # A client that gave up goes on where it was when it is called again.
            with contextlib.suppress(Exception):
                path = hf_hub_download("ada/act", "model.safetensors", cache_dir=cache, endpoint=running.endpoint, token=False)
                break
        assert Path(path).read_bytes() == content
        downloads = [request for request in running.requests() if request["path"].startswith("/cdn/")]
        # It keeps whole chunks of 10 MiB.
        ranges = [request["range"] for request in downloads]
        expected = (2, [None, "bytes=20971520-", None]) if MAJOR >= 1 else (3, [None, "bytes=20971520-", "bytes=31457280-"])
        assert (calls, ranges) == expected, (calls, ranges)
        assert downloads[0]["sent"] == 22_000_000 and downloads[1]["sent"] == 11_000_000
    with hub("--root", str(root), "--resolve-cache", "--cdn-host", "localhost") as running:
        cache = fresh("cache")
        for _ in range(2):
            where = Path(snapshot_download("ada/act", cache_dir=cache, endpoint=running.endpoint, token=False))
            assert (where / "model.safetensors").read_bytes() == content and (where / "a.json").read_bytes() == b"{}"
        blob = (where / "a.json").resolve().name
        assert blob == hashlib.sha1(b"blob 2\0{}").hexdigest() and where.name == running.api(False).model_info("ada/act").sha


def check_faults() -> None:
    """That faults look to the client like the real thing."""
    root = fresh("root")
    write(root / "models/ada/act", {"a.json": b"{}" * 50, "m.safetensors": b"z" * 5000})
    get = lambda running, path="a.json": hf_hub_download(  # noqa: E731
        "ada/act", path, cache_dir=fresh("cache"), endpoint=running.endpoint, token=False
    )
    one = lambda path, **harm: json.dumps([{"path": path, "times": 1, "method": "GET", "harm": harm}])  # noqa: E731
    for harm, path in [
        # 0.36 waits after a 429 in few places only.
        *([(dict(kind="rate_limit", retry_after_s=1), "a.json")] if MAJOR >= 1 else []),
        (dict(kind="trickle", bytes=10, every_ms=5), "a.json"),
        (dict(kind="delay", ms=50), "m.safetensors"),
    ]:
        with hub("--root", str(root), "--faults", one("*/a.json" if path == "a.json" else "/cdn/*", **harm)) as running:
            assert Path(get(running, path)).read_bytes() == (root / "models/ada/act" / path).read_bytes()
            assert sum(request["faulted"] for request in running.requests()) == 1
    for harm in [dict(kind="wrong_length", by=-10), dict(kind="wrong_length", by=10), dict(kind="status", status=403), dict(kind="expired_url")]:
        with hub("--root", str(root), "--faults", json.dumps([{"path": "/cdn/*", "harm": harm}])) as running:
            expect((OSError, HfHubHTTPError), lambda: get(running, "m.safetensors"))
    hostile = [{"path": "/api/models/ada/act*", "harm": {"kind": "names", "paths": ["../out.txt", "A.json"]}}]
    with hub("--root", str(root), "--faults", json.dumps(hostile)) as running:
        assert {"../out.txt", "A.json"} <= {entry.path for entry in running.api(False).list_repo_tree("ada/act")}
    with hub("--made-up", "model:ada/many:2500") as running:
        assert sum(1 for _ in running.api(False).list_repo_tree("ada/many", recursive=True)) == 2501
    with hub("--requests-per-10-s", "2") as running:
        running.api().whoami()
        status = lambda: urllib.request.urlopen(f"{running.endpoint}/api/models").status  # noqa: E731
        assert status() == 200
        try:
            status()
        except urllib.error.HTTPError as error:
            assert error.code == 429 and int(error.headers["Retry-After"]) > 0 and "r=0" in error.headers["RateLimit"]
        else:
            raise AssertionError("expected 429")


def check_large_folder() -> None:
    files = {f"data/{index:03}.{'bin' if index % 3 else 'txt'}": draws.randbytes(500 + index) for index in range(120)}
    with hub("--multipart-from", "600", "--part", "250") as running:
        api = running.api()
        api.create_repo("ada/many", repo_type="dataset")
        folder = write(fresh("up"), files)
        if hasattr(api, "upload_large_folder"):
            api.upload_large_folder("ada/many", folder, repo_type="dataset", print_report=False, num_workers=4)
        else:
            api.upload_folder(repo_id="ada/many", folder_path=folder, repo_type="dataset")
        assert download(running, "ada/many", "dataset") == files


def check_jobs() -> None:
    with hub("--job", "100|one|two|three", "--job", "100000|never") as running:
        if MAJOR == 0:
            # It asks huggingface.co whatever the endpoint is.
            from huggingface_hub import hf_api

            session = hf_api.get_session()
            request = session.request
            session.request = lambda method, url, *rest, **more: request(method, url.replace("https://huggingface.co", running.endpoint), *rest, **more)
            hf_api.get_session = lambda: session
        api = running.api()
        job = api.run_job(image="python:3.12", command=["echo", "hi"], env={"A": "1"}, flavor="a10g-small")
        assert job.status.stage in ("SCHEDULING", "RUNNING") and job.command == ["echo", "hi"], job
        follow = {"follow": True} if MAJOR >= 1 else {}
        assert list(api.fetch_job_logs(job_id=job.id, **follow)) == ["one", "two", "three"]
        done = api.inspect_job(job_id=job.id)
        assert done.status.stage == "COMPLETED" and done.flavor == "a10g-small" and done.docker_image == "python:3.12", done
        endless = api.run_job(image="hf.co/spaces/lab/trainer", command=["train"], namespace="lab")
        assert endless.space_id == "lab/trainer" and endless.owner.name == "lab", endless
        api.cancel_job(job_id=endless.id, namespace="lab")
        assert api.inspect_job(job_id=endless.id, namespace="lab").status.stage == "CANCELED"
        assert [job.id for job in api.list_jobs()] == [job.id]
        expect(HfHubHTTPError if MAJOR >= 1 else Exception, lambda: api.inspect_job(job_id="0" * 24))


def check_login() -> None:
    if MAJOR == 0:
        return
    from huggingface_hub.utils import _oauth_device

    with hub("--login", "hf_writer") as running:
        endpoint, constants.ENDPOINT = constants.ENDPOINT, running.endpoint
        try:
            info = _oauth_device.request_device_code()
            assert len(info["user_code"]) == 9 and info["verification_uri"].startswith(running.endpoint), info
            answer = _oauth_device.poll_device_token(info)
            assert running.api(answer["access_token"]).whoami()["name"] == "ada"
            again = _oauth_device.refresh_access_token(answer["refresh_token"])
            assert again["access_token"] != answer["access_token"]
            assert running.api(again["access_token"]).whoami()["auth"]["type"] == "oauth"
        finally:
            constants.ENDPOINT = endpoint


def peak_mib(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def check_memory() -> None:
    """Large files pass through little memory."""
    with hub("--zeros", f"model:ada/big:zeros.bin:{3 << 30}", "--multipart-from", str(1 << 40), "--state", str(fresh("state"))) as running:
        url = f"{running.endpoint}/ada/big/resolve/main/zeros.bin"
        with urllib.request.urlopen(url) as answer:
            size = 0
            while chunk := answer.read(1 << 20):
                size += len(chunk)
        assert size == 3 << 30, size
        api = running.api()
        api.create_repo("ada/up")
        file = fresh("up") / "big.bin"
        with file.open("wb") as out:
            out.truncate(1 << 30)
        api.upload_file(path_or_fileobj=file, path_in_repo="big.bin", repo_id="ada/up")
        assert api.get_paths_info("ada/up", ["big.bin"])[0].size == 1 << 30
        assert peak_mib(running.process) < 100, peak_mib(running.process)


def check_xet() -> None:
    if not arguments.xet:
        print("  left out: no --xet")
        return
    if arguments.only != "xet":
        # The client decides once, by its environment.
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
        command = [sys.executable, *sys.argv, "--only", "xet"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return
    port = free_port()
    store = subprocess.Popen([arguments.xet, "--port", str(port), "--data-directory", fresh("cas")], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200:
                    break
            time.sleep(0.05)
        with hub("--xet", f"http://127.0.0.1:{port}") as running:
            api = running.api()
            api.create_repo("ada/act")
            files = tree_of(700_000)
            api.upload_folder(repo_id="ada/act", folder_path=write(fresh("up"), files))
            assert not any(request["path"].startswith("/upload/") for request in running.requests()), "it went by LFS"
            assert any("/xet-write-token/" in request["path"] for request in running.requests())
            entry = api.get_paths_info("ada/act", ["model.safetensors"])[0]
            assert entry.lfs.sha256 == hashlib.sha256(files["model.safetensors"]).hexdigest(), entry
            assert MAJOR == 0 or entry.xet_hash, entry
            assert download(running, "ada/act") == files
            assert any("/xet-read-token/" in request["path"] for request in running.requests())
            # A client without Xet gets the same bytes.
            with urllib.request.urlopen(f"{running.endpoint}/ada/act/resolve/main/model.safetensors") as answer:
                assert answer.read() == files["model.safetensors"]
    finally:
        store.terminate()
        store.wait()


def main() -> None:
    print(f"huggingface_hub {huggingface_hub.__version__}")
    parts = {name.removeprefix("check_"): part for name, part in globals().items() if name.startswith("check_")}
    for name, part in parts.items():
        if arguments.only and arguments.only != name:
            continue
        begun = time.monotonic()
        part()
        print(f"  {name}: {time.monotonic() - begun:.1f} s", flush=True)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
