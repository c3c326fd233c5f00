"""The main job on a cluster of three: what it gives on one node, also when a node is killed in the middle."""
import pathlib
import random
import shutil
import signal
import sys
import threading
import time
import unittest

import pyarrow.parquet as pq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cluster import Cluster
from embed_support import TINY, EmbedTest, random_texts, table_of, wait_until


class EmbedOnACluster(EmbedTest):

    def setUp(self):
        super().setUp()
        self.source = self.write("in.parquet", table_of(random_texts(4000)), row_group_size=500)
        self.expected = self.embed(self.source, "--workers", "2")

    def embed_there(self, cluster, out, *flags):
        done = cluster.run("manta-embed", "--model", TINY, "--input", self.source, "--output", out, "--workers", "3",
                           *flags, timeout_s=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        table = pq.read_table(out)
        self.assertEqual(table.drop_columns(["embedding"]), self.expected.drop_columns(["embedding"]))
        for got, wanted in zip(table["embedding"].to_pylist(), self.expected["embedding"].to_pylist()):
            self.assertLess(max(abs(a - b) for a, b in zip(got, wanted)), 1e-5)

    def test_the_pool_is_spread_and_the_result_the_same(self):
        with Cluster(nodes=3) as cluster:
            self.embed_there(cluster, self.out.parent / "there")
            worked = [node for node in cluster.nodes if "actor has a worker" in cluster.log_of(node)]
            self.assertEqual(len(worked), 3)

    def embed_while(self, cluster, happens, *flags, after_s=0.3):
        """`happens` when the last node has been at work for a moment."""
        def when_it_works():
            wait_until(lambda: "actor has a worker" in cluster.log_of(cluster.nodes[2]))
            time.sleep(after_s)  # into its batches
            happens()

        thread = threading.Thread(target=when_it_works)
        thread.start()
        self.embed_there(cluster, self.out.parent / f"there-{time.monotonic_ns()}", *flags)
        thread.join()

    def test_a_node_killed_in_the_middle_costs_no_row(self):
        with Cluster(nodes=3) as cluster:
            self.embed_while(cluster, lambda: cluster.nodes[2].kill(signal.SIGKILL))

    def test_a_node_drained_in_the_middle_costs_no_row(self):
        with Cluster(nodes=3) as cluster:
            codes = []
            self.embed_while(cluster, lambda: codes.append(cluster.nodes[2].kill(signal.SIGTERM)))
            self.assertEqual(codes, [0], cluster.logs())

    def test_a_head_killed_and_started_again_in_the_middle_costs_no_row(self):
        with Cluster(nodes=3, head_cpus=0) as cluster:
            self.embed_while(cluster, cluster.restart_head)

    def test_finished_batches_that_are_lost_with_their_node_are_made_again(self):
        # Read again only when all are there, so whatever a node has made is lost with it.
        self.source = self.write("more.parquet", table_of(random_texts(40000)), row_group_size=2000)
        shutil.rmtree(self.out)
        self.expected = self.embed(self.source, "--workers", "2", "--batch-size", "1000")
        chance = random.Random(5)
        lost = 0
        for moment in range(9):
            with Cluster(nodes=3) as cluster:
                logs = cluster.folder / "driver"
                cluster.driver_env["MANTA_LOG_DIR"] = str(logs)
                visitor = cluster.visitor("viewer")
                by_number = {node.wait_for("mantad: joined ").split()[-1]: node for node in cluster.nodes[1:]}
                has_batches = []

                def kill_one_with_batches():
                    def look():
                        has_batches.extend(row["node"] for row in visitor.rows("objects")
                                           if row["node"] in by_number and 1 << 17 < int(row["size_bytes"]) < 1 << 20)
                        return has_batches
                    wait_until(look)
                    time.sleep(chance.uniform(0, 1))
                    by_number[chance.choice(has_batches)].kill(signal.SIGKILL)

                self.embed_while(cluster, kill_one_with_batches, "--batch-size", "1000", after_s=0)
                lost += any("is lost and is made again" in log.read_text() for log in logs.glob("driver-*.log"))
            if moment >= 2 and lost > 0:
                return
        self.fail("every job was over before its node was killed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
