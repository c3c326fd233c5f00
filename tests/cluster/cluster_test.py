"""Programs on a cluster of several nodes of this machine."""
import os
import signal
import time
import unittest

from cluster import Cluster, wait_until

TASKS = int(os.environ.get("MANTA_TEST_TASKS", "10000"))  # of a graph of large objects; fewer under sanitizers


class ClusterTest(unittest.TestCase):

    def check(self, cluster, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        return done.stdout

    def test_a_program_runs_on_the_other_nodes(self):
        with Cluster(nodes=3) as cluster:
            self.assertIn("the sum of 1000 products is 1498500",
                          self.check(cluster, cluster.run("manta-example-hello-tasks")))

    def test_calls_and_actors_do_what_they_do_on_one_node(self):
        # But for what depends on one node: there an infeasible task is refused, here it waits for a node that could join; there a call
        # is begun when its worker takes it, here from when it is on the way to another node.
        with Cluster(nodes=3, cpus=2) as cluster:
            self.check(cluster, cluster.run("runtime_calls_test", "--gtest_filter=-Options.ReachTheWorker", timeout_s=240))
            one_node = "Actors.GetBigArgumentsThatAnotherProcessHadNotBegun"
            self.check(cluster, cluster.run("runtime_actors_test", f"--gtest_filter=-{one_node}", timeout_s=240))

    def test_objects_cross_nodes(self):
        with Cluster(nodes=3) as cluster:
            said = self.check(cluster, cluster.run("cluster-graph", TASKS, 7, 100e3, 8e6, timeout_s=400))
            self.assertIn(f"{TASKS} tasks right, on 3 nodes", said)

    def test_what_ran_on_a_killed_node_is_done_again(self):
        # Results of a size that their owner keeps.
        with Cluster(nodes=3) as cluster:
            program = cluster.start_graph(6000, 1e3, 60e3)
            program.wait_for("looked at on 3 nodes")
            cluster.nodes[2].kill(signal.SIGKILL)
            program.end_file.touch()
            program.wait_for(" tasks right", timeout_s=120)
            self.assertEqual(program.process.wait(timeout=20), 0)

    def test_objects_of_a_killed_node_are_made_again(self):
        # Results of a size that lies where it was made, most of them made from others that are gone too.
        with Cluster(nodes=3) as cluster:
            program = cluster.start_graph(1200, 100e3, 4e6)
            program.wait_for("looked at on 3 nodes")
            cluster.nodes[2].kill(signal.SIGKILL)
            program.end_file.touch()
            program.wait_for(" tasks right", timeout_s=240)
            self.assertEqual(program.process.wait(timeout=20), 0)

    def test_a_task_gets_what_lies_behind_it_on_another_node(self):
        # The waiters have every CPU, and what they wait for was sent on to the same workers.
        with Cluster(nodes=3) as cluster:
            self.assertIn("3 waiters got what lay behind them",
                          self.check(cluster, cluster.run("cluster-nested", "behind", 3, cluster.folder)))

    def test_nested_tasks_between_nodes_end(self):
        with Cluster(nodes=3) as cluster:
            self.assertIn("fib is 377", self.check(cluster, cluster.run("cluster-nested", "fib", 14, timeout_s=180)))

    def test_actors_that_wait_go_to_the_node_that_gets_room(self):
        with Cluster(nodes=4, cpus=1, head_cpus=0) as cluster:
            self.assertIn("each of 3 had its turn", self.check(cluster, cluster.run("cluster-waits", 3)))

    def test_what_the_next_calls_read_comes_while_one_runs(self):
        with Cluster(nodes=2, labels=["place=0", "place=1"]) as cluster:
            viewer = cluster.visitor("viewer")
            for threads in (1, 3):  # so that one call of four waits at least
                end_file = cluster.folder / f"end-{threads}"
                program = cluster.start_program("cluster-ahead", end_file, threads)
                wait_until(lambda: sum(row["node"] == "2" for row in viewer.rows("objects")) == 4)
                end_file.touch()
                program.wait_for("all read")
                self.assertEqual(program.process.wait(timeout=20), 0)

    def test_a_node_that_was_given_up_hears_of_it_and_ends(self):
        with Cluster(nodes=3) as cluster:
            viewer, node = cluster.visitor("viewer"), cluster.nodes[2]
            node.process.send_signal(signal.SIGSTOP)
            deadline = time.monotonic() + 60
            while len(viewer.rows("nodes")) > 2:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.2)
            node.process.send_signal(signal.SIGCONT)
            self.assertEqual(node.process.wait(timeout=60), 1)
            self.assertIn("gave this node up", node.said.read_text())

    def test_what_no_node_could_hold_waits_and_says_so(self):
        with Cluster(nodes=2) as cluster:
            done = cluster.start_program("runtime_calls_test", "--gtest_filter=Options.ReachTheWorker")
            seen = done.wait_for("tasks wait for a node that could hold them")
            done.end()
            self.assertIn("4000 CPUs", seen)


if __name__ == "__main__":
    unittest.main(verbosity=2)
