"""Commands of `manta` around a cluster's life: start and stop, keys that change, shell completion."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from cluster import BIN, DEADLINE_S, Cluster


class Place:
    """A folder for sessions, and `manta` with no settings but that."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manta-"))
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MANTA_")}
        self.env["MANTA_SESSION_DIR"] = str(self.folder)

    def run(self, *words):
        return subprocess.run([str(BIN / "manta"), *map(str, words)], capture_output=True, text=True, env=self.env,
                              stdin=subprocess.DEVNULL, timeout=DEADLINE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run("stop", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)


class StartTest(unittest.TestCase):

    def test_a_cluster_is_started_looked_at_and_stopped(self):
        with Place() as place:
            head = place.run("start", "--head", "--listen", "tcp://127.0.0.1:*", "--cpus", "1", "--store-bytes", "100000000")
            self.assertEqual(head.returncode, 0, head.stderr)
            address = re.search(r"listens on (tcp://\S+)", head.stdout)[1]
            self.assertIn("manta stop", head.stdout)
            node = place.run("start", "--address", address, "--cpus", "2", "--store-bytes", "100000000")
            self.assertEqual(node.returncode, 0, node.stderr)
            self.assertIn("as node 2", node.stdout)
            status = json.loads(place.run("status", "-o", "json").stdout)
            self.assertEqual(status["counts"]["nodes.alive"], 2)
            self.assertEqual(sum(float(row["cpus"]) for row in status["nodes"]), 3)
            done = place.run("stop")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.count("stopped mantad"), 2)
            self.assertNotEqual(place.run("stop").returncode, 0)
            self.assertIn("no mantad of this user runs", place.run("status").stderr)

    def test_a_mantad_that_cannot_start_says_why(self):
        with Place() as place:
            done = place.run("start", "--head", "--listen", "tcp://0.0.0.0:*")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("without keys", done.stderr)
            self.assertIn("--head, or --address", place.run("start").stderr)


class DrainTest(unittest.TestCase):

    def test_a_drained_node_goes_and_the_command_waits_for_it(self):
        with Cluster(nodes=3) as cluster:
            me = cluster.visitor("driver")
            said = me.ask("drain", "3", "--deadline", "1m", "--wait")
            self.assertIn("node 3 is gone", said)
            self.assertEqual([row["node"] for row in me.rows("nodes")], ["1", "2"])
            self.assertEqual(cluster.nodes[2].process.wait(timeout=DEADLINE_S), 0)
            self.assertIn("no member has the number 3", me.run("drain", "3").stderr)
            self.assertIn("head's own", me.run("drain", "1").stderr)
            self.assertIn("no time", me.run("drain", "2", "--deadline", "soon").stderr)


class KeysTest(unittest.TestCase):

    def test_a_viewers_key_is_rotated_with_an_overlap(self):
        with Cluster(nodes=1) as cluster:
            me = cluster.visitor("viewer")
            me.ask("status")
            keys = pathlib.Path(me.environment["MANTA_KEYS"])
            before = (keys / "node.keys").read_text()
            me.ask("keys", "rotate", "--overlap-hours", "0.001")  # 3.6 s
            self.assertNotEqual((keys / "node.keys").read_text(), before)
            me.ask("status")
            # The old one ends by itself.
            shutil.copy(keys / "node.keys.old", keys / "node.keys")
            deadline = time.monotonic() + DEADLINE_S
            while me.run("status", "--timeout", "2").returncode == 0:
                self.assertLess(time.monotonic(), deadline, "the old key is let in for ever")
                time.sleep(0.2)
            listed = cluster.manta("token", "list", "--keys", cluster.keys)
            self.assertEqual(listed.count(" viewer "), 2, listed)

    def test_every_key_of_a_cluster_is_changed(self):
        with Cluster(nodes=2) as cluster:
            me = cluster.visitor("driver")
            me.ask("status")
            head_folder = str(cluster.keys)
            cluster.manta("keys", "rotate", "--head", "--keys", head_folder)
            node_keys = cluster.folder / "keys-1"
            me.ask("keys", "rotate")
            me.ask("keys", "rotate", "--keys", node_keys)
            self.assertEqual(len((node_keys / "head").read_text().split()), 2)
            # Everything starts again: the head by its new key, and who knew the old one finds it.
            cluster.restart()
            rows = me.rows("nodes")
            self.assertEqual(sorted(row["state"] for row in rows), ["alive", "alive"], rows)
            self.assertEqual(len((node_keys / "head").read_text().split()), 1)
            self.assertFalse((cluster.keys / "node.keys.next").exists())
            done = cluster.run("manta-example-hello-tasks")
            self.assertNotEqual(done.returncode, 0, "the drivers' place did not rotate, and its key of the head is the old one")


class CompletionTest(unittest.TestCase):

    def complete(self, *words):
        """What bash offers for the last word."""
        script = """
            source <("$1" completion bash); shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _manta; printf '%s\\n' "${COMPREPLY[@]}"
        """
        done = subprocess.run(["bash", "-c", script, "bash", str(BIN / "manta"), "manta", *words], capture_output=True, text=True,
                              timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_commands_options_and_values_complete(self):
        self.assertIn("status", self.complete(""))
        self.assertEqual(self.complete("stat"), ["status"])
        self.assertEqual(self.complete("list", "pl"), ["placement-groups"])
        self.assertEqual(self.complete("list", "actors", "--fi"), ["--filter"])
        self.assertEqual(self.complete("list", "actors", "-o", ""), ["text", "json"])
        self.assertEqual(self.complete("token", "re"), ["revoke"])
        self.assertIn("--address", self.complete("status", "--a"))

    def test_every_command_is_in_the_script_and_zsh_gets_the_same(self):
        bash = subprocess.run([str(BIN / "manta"), "completion", "bash"], capture_output=True, text=True, check=True).stdout
        zsh = subprocess.run([str(BIN / "manta"), "completion", "zsh"], capture_output=True, text=True, check=True).stdout
        self.assertTrue(zsh.endswith(bash))
        self.assertIn("bashcompinit", zsh)
        help_text = subprocess.run([str(BIN / "manta"), "--help"], capture_output=True, text=True, check=True).stdout
        commands = re.search(r"Subcommands:\n(.*)", help_text, re.S)[1]
        for line in commands.splitlines():
            if match := re.match(r"  (\w+) ", line):
                self.assertIn(f'" {match[1]}"', bash)


if __name__ == "__main__":
    unittest.main(verbosity=2)
