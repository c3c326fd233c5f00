"""A head that is killed and started again under a running cluster."""
import pathlib
import signal
import tempfile
import time
import unittest

from cluster import Cluster


class RestartTest(unittest.TestCase):

    def check(self, cluster, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        return done.stdout

    def finish(self, cluster, program, text, timeout_s=120):
        try:
            line = program.wait_for(text, timeout_s=timeout_s)
            self.assertEqual(program.process.wait(timeout=20), 0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.logs()}") from None
        return line

    def kill_the_head_in_the_graph(self, head_cpus):
        # Results of a size that their owner keeps.
        with Cluster(nodes=3, head_cpus=head_cpus) as cluster:
            program = cluster.start_graph(10000, 1e3, 60e3)
            program.wait_for(f"looked at on {2 + head_cpus} nodes")
            cluster.restart_head()
            program.end_file.touch()
            self.finish(cluster, program, " tasks right")
            self.assertIn("the sum of 1000 products is 1498500",
                          self.check(cluster, cluster.run("manta-example-hello-tasks")))

    def test_a_graph_goes_on_without_the_head_and_ends_right(self):
        self.kill_the_head_in_the_graph(head_cpus=0)

    def test_what_ran_beside_the_head_is_done_again(self):
        self.kill_the_head_in_the_graph(head_cpus=1)

    def test_nothing_that_was_acknowledged_is_lost(self):
        with Cluster(nodes=3, head_cpus=0, cpus=3) as cluster, tempfile.TemporaryDirectory() as folder:
            program = cluster.start_program("cluster-keeper", "live", folder)
            program.wait_for("tick 10")
            cluster.head.kill(signal.SIGKILL)
            before = program.said.read_text().count("tick ")
            program.wait_for(f"tick {before + 20}")  # calls and leases go on
            pathlib.Path(folder, "late").touch()
            program.wait_for("late is asked for")
            time.sleep(0.5)
            self.assertNotIn("late is there", program.said.read_text())
            cluster.restart_head(pause_s=0)
            program.wait_for("late is there")
            pathlib.Path(folder, "stop").touch()
            total = self.finish(cluster, program, "total ").split()[-1]
            said = self.check(cluster, cluster.run("cluster-keeper", "check", total))
            self.assertIn(f"{total}, {total} and 7", said)

    def test_it_may_happen_again_and_again(self):
        with Cluster(nodes=3, head_cpus=0, cpus=3) as cluster, tempfile.TemporaryDirectory() as folder:
            program = cluster.start_program("cluster-keeper", "live", folder)
            program.wait_for("tick 5")
            for _ in range(3):
                cluster.restart_head(pause_s=0.1)
            pathlib.Path(folder, "late").touch()
            program.wait_for("late is there")
            pathlib.Path(folder, "stop").touch()
            total = self.finish(cluster, program, "total ").split()[-1]
            self.check(cluster, cluster.run("cluster-keeper", "check", total))

    def test_a_node_that_dies_is_noticed(self):
        with Cluster(nodes=3) as cluster:
            cluster.nodes[2].kill(signal.SIGKILL)
            begun = time.monotonic()  # on a busy machine a process takes its time to end
            while "a node is gone" not in cluster.log_of(cluster.nodes[1]):
                self.assertLess(time.monotonic() - begun, 30, cluster.logs())
                time.sleep(0.01)
            print(f"noticed after {time.monotonic() - begun:.2f} s", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
