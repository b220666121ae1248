"""Daemons in network namespaces: found by zeroconf for Python and by `sinew daemon find`, and reached by HTTPS. See check_lan.sh."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SERVICE = "_sinew._tcp.local."
PREFIX = f"sm{os.getpid() % 10000}"


def sh(*words):
    subprocess.run(words, check=True)


def inside(namespace, *words):
    return ["ip", "netns", "exec", f"{PREFIX}-{namespace}", *map(str, words)]


def watch():
    """In a namespace: prints what zeroconf sees, a JSON line an event; ends with its standard input."""
    from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

    def told(kind, name, info=None):
        line = {"event": kind, "name": name}
        if info:
            line |= {
                "server": info.server,
                "port": info.port,
                "addresses": sorted(info.parsed_addresses()),
                "txt": {key.decode(): (value or b"").decode() for key, value in info.properties.items()},
            }
        print(json.dumps(line), flush=True)

    class Listener(ServiceListener):
        def add_service(self, zeroconf, kind, name):
            told("add", name, zeroconf.get_service_info(kind, name, 3000))

        def update_service(self, zeroconf, kind, name):
            told("update", name, zeroconf.get_service_info(kind, name, 3000))

        def remove_service(self, zeroconf, kind, name):
            told("remove", name)

    zeroconf = Zeroconf()
    ServiceBrowser(zeroconf, SERVICE, Listener())
    for line in sys.stdin:
        own = json.loads(line)
        zeroconf.register_service(
            ServiceInfo(SERVICE, f"{own['name']}.{SERVICE}", addresses=[socket.inet_aton(own["address"])], port=own["port"], properties={"robot": "so100", "version": "9", "path": "/"})
        )
    zeroconf.close()


class Seen:
    """What zeroconf sees in a namespace."""

    def __init__(self, stack, namespace):
        self.process = subprocess.Popen(inside(namespace, sys.executable, __file__, "--watch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self.process.kill)
        self.now, self.changed = {}, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            name = event["name"].removesuffix("." + SERVICE)
            with self.changed:
                if event["event"] == "remove":
                    self.now.pop(name, None)
                elif "txt" in event:
                    self.now[name] = event
                self.changed.notify_all()

    def register(self, name, address, port):
        self.process.stdin.write(json.dumps({"name": name, "address": address, "port": port}) + "\n")
        self.process.stdin.flush()

    def wait(self, what, is_so, seconds=15):
        begun = time.monotonic()
        with self.changed:
            while not is_so(self.now):
                left = begun + seconds - time.monotonic()
                assert left > 0, f"{what}: {json.dumps(self.now, indent=1)}"
                self.changed.wait(left)
            took = time.monotonic() - begun
            print(f"  {what}: {took:.1f} s")
            return dict(self.now)


class Daemon:
    """A daemon in a namespace, on a machine of that name."""

    def __init__(self, stack, sinew, folder, namespace, host, *options, listen="0.0.0.0:8450"):
        self.state = state = folder / f"state-{namespace}-{time.monotonic_ns()}"
        self.token = subprocess.run([sinew, "daemon", "token", "--state", state], check=True, capture_output=True, text=True).stdout.strip()
        words = ["daemon", "--listen", listen, "--state", state, "--json", *options]
        line = inside(namespace, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, sinew, *words)
        self.log = open(folder / f"log-{namespace}", "w+")
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)})
        stack.callback(self.process.kill)
        ready = json.loads(self.process.stdout.readline())
        assert ready["ready"], ready

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def end(self):
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
        return time.monotonic() - begun


def build(stack):
    """Namespaces a, b and c on one switch, and d on another that a can be plugged into."""
    for name in ["a", "b", "c", "d", "sw"]:
        sh("ip", "netns", "add", f"{PREFIX}-{name}")
        stack.callback(subprocess.run, ["ip", "netns", "del", f"{PREFIX}-{name}"])
        sh(*inside(name, "ip", "link", "set", "lo", "up"))
    sh(*inside("sw", "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"))
    sh(*inside("sw", "ip", "link", "set", "br0", "up"))
    for i, name in enumerate(["a", "b", "c"], 1):
        sh(*inside("sw", "ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", f"{PREFIX}-{name}"))
        sh(*inside("sw", "ip", "link", "set", f"to-{name}", "master", "br0", "up"))
        sh(*inside(name, "ip", "addr", "add", f"10.77.0.{i}/24", "dev", "eth0"))
        sh(*inside(name, "ip", "link", "set", "eth0", "up"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sinew")
    parser.add_argument("--watch", action="store_true")
    args = parser.parse_args()
    if args.watch:
        return watch()
    sinew = pathlib.Path(args.sinew).resolve()

    def found(namespace, seconds=3):
        line = inside(namespace, sinew, "daemon", "find", "--json", "--within", seconds)
        return {item["name"]: item for item in json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)}

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build(stack)
        seen = Seen(stack, "c")
        print("one daemon")
        first = Daemon(stack, sinew, folder, "a", "kitchen-pi")
        now = seen.wait("zeroconf finds it", lambda now: "kitchen-pi" in now)["kitchen-pi"]
        assert now["port"] == 8450 and now["server"] == "kitchen-pi.local." and now["addresses"] == ["10.77.0.1"], now
        assert set(now["txt"]) == {"robot", "version", "path", "scheme"} and now["txt"]["robot"] == "so101" and now["txt"]["path"] == "/", now
        assert first.token not in json.dumps(now)
        ours = found("c")["kitchen-pi"]
        assert ours["urls"] == ["http://10.77.0.1:8450/"] and ours["host"] == "kitchen-pi.local" and ours["robot"] == "so101", ours
        answer = subprocess.run(inside("c", "curl", "-sS", "-m", "5", ours["urls"][0] + "healthz"), check=True, capture_output=True, text=True)
        assert answer.stdout == "OK\n", answer

        print("two of one name")
        second = Daemon(stack, sinew, folder, "b", "kitchen-pi")
        now = seen.wait("zeroconf finds both", lambda now: {"kitchen-pi", "kitchen-pi (2)"} <= now.keys())
        assert {"".join(one["addresses"]) for one in now.values()} == {"10.77.0.1", "10.77.0.2"}, now
        assert len({one["server"] for one in now.values()}) == 2, now
        assert set(found("c")) == {"kitchen-pi", "kitchen-pi (2)"}, found("c")
        assert "is found as kitchen-pi (2)" in second.said(), second.said()

        print("somebody else's service")
        seen.register("attic", "10.77.0.3", 1234)
        seen.wait("zeroconf has it", lambda now: "attic" in now)
        theirs = found("b")["attic"]
        assert theirs["urls"] == ["http://10.77.0.3:1234/"] and theirs["robot"] == "so100" and theirs["version"] == "9", theirs

        print("interfaces that come and go")
        sh(*inside("a", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", f"{PREFIX}-d"))
        sh(*inside("d", "ip", "addr", "add", "10.78.0.4/24", "dev", "eth0"))
        sh(*inside("d", "ip", "link", "set", "eth0", "up"))
        sh(*inside("a", "ip", "addr", "add", "10.78.0.1/24", "dev", "eth1"))
        sh(*inside("a", "ip", "link", "set", "eth1", "up"))
        # zeroconf itself looks at interfaces when it begins.
        other = Seen(stack, "d")
        now = other.wait("on a network that was plugged in", lambda now: "kitchen-pi" in now, 30)["kitchen-pi"]
        assert "10.78.0.1" in now["addresses"] and "10.77.0.1" not in now["addresses"], now
        sh(*inside("a", "ip", "link", "del", "eth1"))
        sh(*inside("a", "ip", "link", "set", "eth0", "down"))
        time.sleep(8)
        sh(*inside("a", "ip", "link", "set", "eth0", "up"))
        begun = time.monotonic()
        while "kitchen-pi" not in found("b", 2):
            assert time.monotonic() - begun < 30, first.said()
        print(f"  found after its cable was out: {time.monotonic() - begun:.1f} s")

        print("who goes says so")
        took = first.end()
        seen.wait("zeroconf has lost it", lambda now: "kitchen-pi" not in now, 5)
        print(f"  the daemon ended in {took:.1f} s")
        assert "kitchen-pi (2)" in found("c")
        second.end()

        print("one address, none, and off")
        sh(*inside("a", "ip", "addr", "add", "10.77.0.9/24", "dev", "eth0"))
        one = Daemon(stack, sinew, folder, "a", "shed", "--fleet-name", "left-arm", listen="10.77.0.9:8450")
        now = seen.wait("by the name that it was given", lambda now: "left-arm" in now)["left-arm"]
        assert now["addresses"] == ["10.77.0.9"] and now["server"] == "shed.local.", now
        one.end()
        for options, listen in [(["--no-mdns"], "0.0.0.0:8450"), ([], "127.0.0.1:8450")]:
            hidden = Daemon(stack, sinew, folder, "a", "shed", *options, listen=listen)
            assert "shed" not in found("c"), options
            hidden.end()

        print("HTTPS")
        secure = Daemon(stack, sinew, folder, "a", "shed", "--https")
        now = seen.wait("its scheme is told", lambda now: "shed" in now)["shed"]
        assert now["txt"]["scheme"] == "https" and found("c")["shed"]["urls"][0] == "https://10.77.0.1:8450/", now
        bearer = ["-H", f"Authorization: Bearer {secure.token}"]

        def curl(*words):
            line = inside("c", "curl", "-sS", "-m", "5", "-o", folder / "body", "-w", "%{http_code} %{redirect_url}", *words)
            done = subprocess.run(line, capture_output=True, text=True)
            return done.returncode, done.stdout.strip()

        assert curl("http://10.77.0.1:8450/index.html") == (0, "308 https://10.77.0.1:8450/index.html"), "who comes by HTTP is sent on"
        assert curl(*bearer, "http://10.77.0.1:8450/api/v1/me") == (0, "403"), "and gets nothing there"
        assert "https://10.77.0.1:8450/api/v1/me" in (folder / "body").read_text()
        assert curl(*bearer, "https://10.77.0.1:8450/api/v1/me")[0] == 60, "nobody trusts it who was not told to"
        authority = folder / "ca.pem"
        text = (secure.state / "https/authority.pem").read_text()
        authority.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
        for host in ["10.77.0.1", "10.77.0.9", "shed", "shed.local"]:
            told = curl("--cacert", authority, "--resolve", f"{host}:8450:10.77.0.1", *bearer, f"https://{host}:8450/api/v1/me")
            # A name of one word is one that --host would have to tell.
            assert told == (0, "421" if host == "shed" else "200"), (host, told)
        assert curl("--cacert", authority, "--resolve", "attic.local:8450:10.77.0.1", "https://attic.local:8450/")[0] == 60
        print("  who trusts its authority is let in by its names and addresses, and by no other")
        # Another address, which comes later, is in the next certificate.
        sh(*inside("a", "ip", "addr", "add", "10.77.0.42/24", "dev", "eth0"))
        first, begun = secure.said(), time.monotonic()
        while curl("--cacert", authority, *bearer, "https://10.77.0.42:8450/api/v1/me") != (0, "200"):
            assert time.monotonic() - begun < 90, secure.said()
            time.sleep(2)
        assert "the certificate was renewed" in secure.said().removeprefix(first), secure.said()
        print(f"  a new address is in the certificate after {time.monotonic() - begun:.0f} s")
        digits = subprocess.run(inside("a", sinew, "daemon", "pair", "--state", secure.state), capture_output=True, text=True)
        assert digits.returncode == 0 and digits.stdout.strip().isdigit(), digits
        secure.end()
        print("all is well")


main()
