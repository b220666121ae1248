"""What scripts/check_daemon_client.sh does: see there."""

import importlib
import json
import os
import pathlib
import pkgutil
import subprocess
import sys
import time
import urllib.request

ROOM = pathlib.Path(sys.argv[1])
# Kinds of files that the generator does not know.
CONFIG = '{"content_type_overrides": {"image/jpeg": "application/octet-stream", "model/stl": "application/octet-stream"}, "post_hooks": []}'


def start():
    """A daemon, its address and its token."""
    command = [os.environ["SINEW"], "daemon", "--listen", "127.0.0.1:0", "--state", "state", "--json"]
    process = subprocess.Popen(command, cwd=ROOM, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    ready = json.loads(process.stdout.readline())
    return process, f"http://{ready['address']}", (ROOM / ready["token_file"]).read_text().strip()


def generate(address):
    """The client, made without a warning."""
    (ROOM / "openapi.json").write_bytes(urllib.request.urlopen(f"{address}/api/v1/openapi.json").read())
    (ROOM / "config.json").write_text(CONFIG)
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.json", "--meta", "none", "--output-path", "sinew_daemon", "--fail-on-warning"],
        cwd=ROOM, capture_output=True, text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(ROOM))


def main():
    process, address, token = start()
    try:
        generate(address)
        calls = importlib.import_module("sinew_daemon.api.default")
        models = importlib.import_module("sinew_daemon.models")
        client = importlib.import_module("sinew_daemon").AuthenticatedClient(base_url=address, token=token)

        def ask(name, *args, status=200, **body):
            """One request; what is answered, which has to be of the type that the document has for that status."""
            call = importlib.import_module(f"{calls.__name__}.{name}")
            answer = call.sync_detailed(*args, client=client, **body)
            assert answer.status_code == status, (name, answer)
            assert answer.parsed is not None and (status == 200) != isinstance(answer.parsed, models.Problem), (name, answer)
            return answer.parsed

        def until(so, seconds=60):
            end = time.monotonic() + seconds
            while not so(state := ask("get_state")):
                assert time.monotonic() < end, state
                time.sleep(0.05)
            return state

        robot = ask("get_robot")
        assert (robot.name, robot.is_simulated, len(robot.state), robot.calibrate) == ("so101", True, 6, []), robot
        until(lambda state: state.position and state.position[0] is not None)
        # Each of a kind that can be asked for at rest.
        for name in ("get_me", "get_robot_description", "get_log", "get_datasets", "get_policies", "get_tasks", "get_devices", "get_openapi_json"):
            ask(name)
        # What is refused is an error of its type.
        ask("get_datasets_dataset", "none", status=404)
        ask("post_tasks", body=of_kind(models, "Task", "check_policy", policy="/etc/passwd"), status=400)
        ask("post_calibration", body=models.CalibrationAnswer.from_dict({"number": 1, "answer": "next"}), status=409)
        ask("post_tasks_cancel", body=models.Begun(number=9), status=404)
        # A work from its start to its end.
        ask("post_work", body=of_kind(models, "Work", "record", leader="scripted", dataset="cubes", episodes=1, episode_s=2.0))
        running = until(lambda state: state.mode == "record" and state.work.phase == "running")
        assert running.calibration is None and running.work.dataset == "cubes", running
        until(lambda state: state.mode == "idle")
        end = ask("get_work")
        assert end.error is None and end.mode == "record" and len(end.episodes) == 1, end
        [dataset] = ask("get_datasets")
        assert (dataset.name, dataset.episodes) == ("cubes", 1), dataset
        [episode] = ask("get_datasets_dataset", "cubes")
        assert episode.frames > 0 and ask("get_datasets_dataset_episodes_episode", "cubes", "0.jpg").payload.read(2) == b"\xff\xd8"
        ask("post_stop", body=models.Stop.from_dict({"stop": "stop"}))
        begun = ask("post_tasks", body=of_kind(models, "Task", "verify_dataset", dataset="cubes"))
        for _ in range(600):
            [task] = ask("get_tasks")
            if task.is_done:
                break
            time.sleep(0.1)
        assert (task.number, task.is_done, task.error, task.is_cancelled) == (begun.number, True, None, False), task
        count = len(list(pkgutil.iter_modules(calls.__path__)))
        print(f"a client of {count} requests was made, and what it is answered is what the document says")
    finally:
        process.terminate()
        process.wait(30)


def of_kind(models, what, kind, **fields):
    """A body of this kind: the generator numbers them."""
    for name, made in vars(models).items():
        if name.startswith(f"{what}Type") and made.__annotations__.get("kind") == f"Literal['{kind}']":
            return made.from_dict({"kind": kind, **fields})
    raise AssertionError(f"the client knows no {what} of the kind {kind}")


if __name__ == "__main__":
    main()
