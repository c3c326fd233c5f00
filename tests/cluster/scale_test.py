"""Many nodes on one machine. How fast they are with 100 of them is `./run bench cluster`'s to say."""
import json
import os
import signal
import time
import unittest

from cluster import Cluster

NODES = int(os.environ.get("MANTA_TEST_NODES", "24"))  # fewer under sanitizers, which make each ten times as slow
CPUS = 3  # of 24 nodes: more can run at once than one class of tasks had leases once (64)
DEMANDS = 800 * NODES
SMALL = ["--store-bytes", str(16 << 20), "--store-warm-bytes", "0", "--memory", str(1 << 30)]


class ScaleTest(unittest.TestCase):

    def test_a_head_that_stood_still_keeps_its_nodes(self):
        with Cluster(nodes=4, flags=SMALL, namespaces=False) as cluster:
            viewer = cluster.visitor("viewer")
            before = json.loads(viewer.ask("status", "-o", "json"))
            cluster.head.process.send_signal(signal.SIGSTOP)
            time.sleep(6)  # longer than a node may be silent
            cluster.head.process.send_signal(signal.SIGCONT)
            for _ in range(5):
                after = json.loads(viewer.ask("status", "-o", "json"))
                self.assertEqual([row["node"] for row in after["nodes"]], [row["node"] for row in before["nodes"]])
                time.sleep(0.1)
            done = cluster.run("cluster-many", 100, 4, cluster.folder)
            self.assertEqual(done.returncode, 0, done.stderr + cluster.logs())

    def wait_for(self, viewer, what, program=None):
        """The status once `what` holds of it, while the program runs."""
        deadline = time.monotonic() + 120
        while True:
            status = json.loads(viewer.ask("status", "-o", "json"))
            if what(status):
                return status
            self.assertLess(time.monotonic(), deadline, status["counts"])
            if program is not None:
                self.assertIsNone(program.process.poll(), program.said.read_text())
            time.sleep(0.1)

    def test_many_nodes_work_at_once_and_keep_what_waits(self):
        with Cluster(nodes=NODES, cpus=CPUS, flags=SMALL, namespaces=False) as cluster:
            viewer = cluster.visitor("viewer")
            status = self.wait_for(viewer, lambda status: status["counts"].get("nodes.alive") == NODES)
            self.assertEqual({(row["state"], row["cpus_free"]) for row in status["nodes"]}, {("alive", str(CPUS))})

            done = cluster.run("cluster-many", 2_000, NODES * CPUS, cluster.folder, timeout_s=180)
            self.assertEqual(done.returncode, 0, done.stderr + cluster.logs())
            self.assertIn(f"{NODES * CPUS} at once on {NODES} nodes", done.stdout)
            self.assertIn("2000 tasks right", done.stdout)

            held = lambda status: status["counts"].get("actors.waiting_for_room", 0)
            queued = lambda status: sum(int(row["waiting"]) for row in status["nodes"])
            pending = lambda status: status["counts"].get("actors.pending", 0)
            for cpus, kept, left in ((0, held, DEMANDS), (1, queued, DEMANDS - NODES * CPUS)):
                program = cluster.start_program("cluster-demands", DEMANDS, cpus)
                self.wait_for(viewer, lambda status: kept(status) == pending(status) == left, program)
                program.end()
                self.wait_for(viewer, lambda status: held(status) == queued(status) == pending(status) == 0)
            self.wait_for(viewer, lambda status: {row["cpus_free"] for row in status["nodes"]} == {str(CPUS)})


if __name__ == "__main__":
    unittest.main()
