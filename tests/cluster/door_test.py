"""The command line at the door of a cluster: what it shows, whom it lets in, and what a listener on the network learns."""
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
import unittest

from cluster import BIN, Cluster, Visitor

# What `manta` can do at a cluster's door, and what of it changes something.
LOOKS = [["status"], *[["list", what] for what in
                       ("nodes", "workers", "actors", "tasks", "objects", "jobs", "placement-groups")]]
CHANGES = [["kill", "0000010000000001-1"], ["drain", "2"]]


class DoorTest(unittest.TestCase):

    def test_status_and_lists_show_what_there_is(self):
        with Cluster(nodes=3) as cluster:
            program = cluster.start_program("cluster-graph", 100000, 3, 100e3, 200e3)
            program.wait_for("200 looked at")
            me = cluster.visitor("viewer")
            status = json.loads(me.ask("status", "-o", "json"))
            self.assertEqual(status["life"], 1)
            self.assertEqual(status["counts"]["nodes.alive"], 4)
            self.assertEqual(status["counts"]["jobs.running"], 1)
            self.assertEqual(len(status["nodes"]), 4)
            self.assertIn("nodes    4 alive", me.ask("status"))
            self.assertEqual([row["node"] for row in me.rows("nodes")], ["1", "2", "3", "4"])
            self.assertEqual(len(me.rows("nodes", "--filter", "driver=true")), 1)
            busy, deadline = set(), time.monotonic() + 60
            while busy != {"1", "2", "3"}:  # each for a moment without a task now and then
                self.assertLess(time.monotonic(), deadline, busy)
                busy |= {row["node"] for row in me.rows("workers", "--filter", "state=busy")}
            self.assertTrue(any(row["state"] == "running" for row in me.rows("tasks")))
            objects = me.rows("objects", "--filter", "state=memory")
            self.assertTrue(objects and all(int(row["size_bytes"]) > 100_000 for row in objects))
            self.assertEqual([row["state"] for row in me.rows("jobs")], ["running"])
            self.assertEqual(me.rows("placement-groups"), [])
            program.end()

    def test_lists_go_on_by_cursors(self):
        with Cluster(nodes=3) as cluster:
            me = cluster.visitor("viewer")
            for what in ("nodes", "workers"):
                whole = json.loads(me.ask("list", what, "-o", "json"))
                self.assertEqual(whole["cursor"], "")
                seen, cursor = [], ""
                while True:
                    page = json.loads(me.ask("list", what, "--limit", "1", "--cursor", cursor, "-o", "json"))
                    seen += page["rows"]
                    self.assertLessEqual(len(page["rows"]), 1)
                    cursor = page["cursor"]
                    if not cursor:
                        break
                key = {"nodes": "node", "workers": "pid"}[what]
                self.assertEqual([row[key] for row in seen], [row[key] for row in whole["rows"]])
            self.assertIn("key=value", me.run("list", "nodes", "--filter", "nonsense").stderr)

    def test_fifty_thousand_rows_come_by_cursors_through_a_filter(self):
        with Cluster(nodes=1) as cluster:
            me = cluster.visitor("viewer")
            me.ask("status")
            program = cluster.start_program("cluster-demands", 100_000)
            program.wait_for("100000 asked for", timeout_s=240)
            deadline = time.monotonic() + 120
            while True:
                status = json.loads(me.ask("status", "-o", "json"))
                if status["counts"].get("actors.waiting_for_room") == 100_000:
                    break
                self.assertLess(time.monotonic(), deadline, status)
            rows = me.rows("actors", "--filter", "name_space=odd", "--filter", "state=pending")
            self.assertEqual(len(rows), 50_000)
            self.assertEqual(len({row["actor"] for row in rows}), 50_000)
            self.assertEqual({row["name_space"] for row in rows}, {"odd"})
            self.assertIn("unobtainium", rows[0]["cause"])
            program.end()

    def test_a_mantad_of_this_user_needs_no_address(self):
        with Cluster(nodes=2) as cluster:
            for node in cluster.nodes:
                done = subprocess.run([str(BIN / "manta"), "status", "-o", "json", "--session", str(node.folder / "session")],
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(json.loads(done.stdout)["counts"]["nodes.alive"], 2)


class SecurityTest(unittest.TestCase):

    def check_refused(self, visitor, words, why):
        done = visitor.run(*words, "--timeout", "3")
        self.assertNotEqual(done.returncode, 0, f"{why}: {words} succeeded: {done.stdout}")
        self.assertEqual(done.stdout, "", f"{why}: {words}")
        return done.stderr

    def test_no_operation_succeeds_without_the_right_to_it(self):
        with Cluster(nodes=2) as cluster:
            viewer, revoked = cluster.visitor("viewer"), cluster.visitor("driver")
            viewer.ask("status")
            revoked.ask("status")
            id = next(line.split()[0] for line in cluster.manta("token", "list", "--keys", cluster.keys).splitlines()
                      if re.match(r"\w+ +key +driver ", line))
            cluster.manta("token", "revoke", "--keys", cluster.keys, id)
            deadline = time.monotonic() + 60
            while revoked.run("status", "--timeout", "3").returncode == 0:  # until the head has looked at its folder
                self.assertLess(time.monotonic(), deadline)
            keyless = Visitor(cluster)
            for words in LOOKS + CHANGES:
                self.check_refused(keyless, words, "without keys")
                self.assertIn("does not let this key in", self.check_refused(revoked, words, "with a revoked key"))
            for words in LOOKS:
                viewer.ask(*words)
            for words in CHANGES:
                self.assertIn("viewer", self.check_refused(viewer, words, "as viewer"))
            self.assertEqual({row["draining"] for row in viewer.rows("nodes")}, {"false"})

    def test_a_token_is_good_for_one_key(self):
        with Cluster(nodes=1) as cluster:
            first = cluster.visitor("viewer")
            first.ask("status")
            second = Visitor(cluster, cluster.folder / "other-keys", first.environment["MANTA_JOIN_TOKEN"])
            self.check_refused(second, ["status"], "with a token that was used")

    def test_a_viewer_joins_neither_as_node_nor_as_driver(self):
        with Cluster(nodes=1) as cluster:
            viewer = cluster.visitor("viewer")
            viewer.ask("status")  # its key is let in
            words = [*cluster.driver_prefix, str(BIN / "mantad"), "--address", cluster.address, "--listen",
                     cluster.driver_env["MANTA_LISTEN"], "--keys", viewer.environment["MANTA_KEYS"]]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("one of a viewer", done.stderr)

    def test_mantad_listens_beyond_loopback_only_with_keys(self):
        for address in ("tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"):
            done = subprocess.run([str(BIN / "mantad"), "--head", "--listen", address], capture_output=True, text=True,
                                  timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("without keys", done.stderr)

    def test_what_is_said_to_a_port_without_keys_is_not_answered(self):
        with Cluster(nodes=2) as cluster:
            ports = {(node, port) for node in cluster.nodes for port in listening_ports(node.process.pid)}
            self.assertEqual(len(ports), 4, "an endpoint and a bulk port each")
            for node, port in ports:
                answer = cluster_python(cluster, node, port)
                self.assertNotIn("answered", answer, f"port {port}")

    def test_the_network_carries_nothing_in_the_clear(self):
        if not may_capture():
            self.skipTest("packets can be captured by root only")
        for keys in (False, True):
            secret = "secret-" + secrets.token_hex(16)
            with Cluster(nodes=3, keys=keys) as cluster, Capture(cluster, secret) as capture:
                done = cluster.run("cluster-secret", secret)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
                size, times = capture.end()
            self.assertGreater(size, 6_000_000)
            if keys:
                self.assertEqual(times, 0)
            else:
                self.assertGreater(times, 0, f"{size} bytes were captured, and not what is in the clear")


# Looks at every packet; at SIGTERM it says how many bytes those had and how many of them hold the text.
CAPTURE = r"""
import signal, socket, sys
text = sys.argv[1].encode()
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
line.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
line.settimeout(0.1)
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
print("captures", flush=True)
size = times = 0
while True:
    try:
        packet = line.recv(1 << 18)
        size += len(packet)
        times += text in packet
    except socket.timeout:
        if ended: break
print(size, times)
"""


def may_capture():
    done = subprocess.run([sys.executable, "-c", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"],
                          capture_output=True)
    return done.returncode == 0


class Capture:
    """Of all that passes between the nodes: at the switch between their namespaces, or on loopback."""

    def __init__(self, cluster, text):
        prefix = [] if cluster.network is None else ["ip", "netns", "exec", f"{cluster.network.name}-sw"]
        self.process = subprocess.Popen([*prefix, sys.executable, "-c", CAPTURE, text], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return map(int, self.process.communicate(timeout=60)[0].split())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def listening_ports(pid):
    """The TCP ports that a process listens on."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))
        except FileNotFoundError:
            continue
        if match:
            inodes.add(match[1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


# Says things to a port as somebody without keys might, and prints what came back that is more than a greeting or a refusal.
INTRUDER = r"""
import socket, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
def talk(words, wrap=None):
    try:
        with socket.create_connection((host, port), timeout=5) as line:
            line.settimeout(2)
            if wrap: line = wrap.wrap_socket(line)
            line.sendall(words)
            heard = b""
            while chunk := line.recv(65536): heard += chunk
            return heard
    except (OSError, ssl.SSLError):
        return heard if "heard" in dir() else b""
null_greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
for words, wrap in ((null_greeting + ready + b"\x00\x04ping", None), (b"GET / HTTP/1.1\r\n\r\n", None), (bytes(4096), None),
                    (bytes(256), context)):
    heard = talk(words, wrap)
    # ZeroMQ greets everybody with 64 bytes that name its mechanism; a TLS server says what is wrong in an alert.
    if len(heard) > 64 and not heard.startswith(b"\x15\x03"): print("answered", len(heard), heard[:80])
"""


def cluster_python(cluster, node, port):
    host = cluster.address.rsplit("/", 1)[1].rsplit(":", 1)[0]
    if cluster.network is not None:
        host = f"10.99.0.{cluster.nodes.index(node) + 1}"
    done = subprocess.run([*cluster.driver_prefix, "python3", "-c", INTRUDER, host, str(port)], capture_output=True, text=True,
                          timeout=120)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


if __name__ == "__main__":
    unittest.main(verbosity=2)
