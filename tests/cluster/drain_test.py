"""Nodes that are drained by SIGTERM: what they do ends there or moves, and nobody has to try again."""
import pathlib
import signal
import tempfile
import unittest

from cluster import Cluster


class DrainTest(unittest.TestCase):
    PLACES = ("place=head", "place=old", "place=new")

    def finish(self, cluster, program, text, timeout_s=120):
        try:
            line = program.wait_for(text, timeout_s=timeout_s)
            self.assertEqual(program.process.wait(timeout=20), 0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{cluster.logs()}") from None
        return line

    def drain_in_the_graph(self, tasks, *sizes, goes_first):
        with Cluster(nodes=3, head_cpus=0) as cluster:
            program = cluster.start_graph(tasks, *sizes, retries=0)  # no task may run twice
            program.wait_for("looked at on 2 nodes")
            if not goes_first:  # not before the program has ended
                program.end_file.touch()
            self.assertEqual(cluster.nodes[2].kill(signal.SIGTERM), 0)
            program.end_file.touch()
            self.finish(cluster, program, " tasks right, on 2 nodes")
            self.assertIn("the node is drained", cluster.log_of(cluster.nodes[2]))

    def test_a_graph_of_small_values_loses_nothing(self):
        self.drain_in_the_graph(6000, 1e3, 60e3, goes_first=True)

    def test_a_node_stays_until_its_objects_are_not_needed(self):
        self.drain_in_the_graph(400, 100e3, 1e6, goes_first=False)

    def hold(self, cluster, folder, *words):
        """A program that holds what was made at the nodes labelled place=old, all of it made."""
        program = cluster.start_program("cluster-hold", 200, 200_000, folder, *words)
        program.wait_for("all made")
        return program

    def check(self, cluster, program, folder):
        pathlib.Path(folder, "check").touch()
        self.finish(cluster, program, "200 right")

    def test_only_copies_move_and_nothing_runs_again(self):
        with Cluster(nodes=3, cpus=2, head_cpus=1, labels=self.PLACES,
                     flags=("--drain-deadline", "600")) as cluster, tempfile.TemporaryDirectory() as folder:
            program = self.hold(cluster, folder)
            self.assertEqual(cluster.nodes[1].kill(signal.SIGTERM), 0)  # waits for a minute
            self.check(cluster, program, folder)
            made = list(pathlib.Path(folder).glob("made-*"))
            self.assertEqual(len(made), 175)  # and an actor made the others
            self.assertEqual({note.read_text() for note in made}, {"once\n"})

    def test_what_has_moved_moves_on(self):
        with Cluster(nodes=5, cpus=2, head_cpus=1, labels=self.PLACES,
                     flags=("--drain-deadline", "600")) as cluster, tempfile.TemporaryDirectory() as folder:
            program = self.hold(cluster, folder)
            cluster.restart_head()  # which knows nothing of objects
            self.assertEqual(cluster.nodes[1].kill(signal.SIGTERM), 0)
            self.assertEqual(cluster.nodes[3].kill(signal.SIGTERM), 0)
            self.check(cluster, program, folder)

    def test_a_receiver_that_dies_loses_only_what_it_had(self):
        with Cluster(nodes=4, cpus=2, head_cpus=1, labels=self.PLACES,
                     flags=("--drain-deadline", "600")) as cluster, tempfile.TemporaryDirectory() as folder:
            program = self.hold(cluster, folder, 3)
            cluster.labels = ["place=old"] * (cluster.count + 1)
            cluster.add().wait_for("mantad: joined ")  # where what is lost is made again
            cluster.nodes[1].process.send_signal(signal.SIGTERM)
            cluster.nodes[3].kill()
            self.assertEqual(cluster.nodes[1].process.wait(timeout=60), 0)
            self.check(cluster, program, folder)

    def test_what_is_cut_off_is_done_again(self):
        with Cluster(nodes=4, head_cpus=0, flags=("--drain-deadline", "0")) as cluster:
            program = cluster.start_program("cluster-graph", 1500, 3, 1e3, 60e3, 1)
            program.wait_for("100 looked at")
            self.assertEqual(cluster.nodes[3].kill(signal.SIGTERM), 0)
            program.wait_for("600 looked at")
            self.assertEqual(cluster.nodes[2].kill(signal.SIGTERM), 0)
            self.finish(cluster, program, "1500 tasks right")

    def test_an_actor_moves_and_each_call_counts_once(self):
        with Cluster(nodes=3, head_cpus=0) as cluster, tempfile.TemporaryDirectory() as folder:
            program = cluster.start_program("cluster-keeper", "move", folder)
            first = int(program.wait_for("on node").split()[-1])
            program.wait_for("round 20")
            self.assertEqual(cluster.nodes[first].kill(signal.SIGTERM), 0)
            program.wait_for(f"on node {3 - first}")
            rounds = program.said.read_text().count("round ")
            program.wait_for(f"round {rounds + 5}")
            pathlib.Path(folder, "stop").touch()
            self.finish(cluster, program, "total ")

    def test_a_second_signal_ends_it_at_once(self):
        with Cluster(nodes=3, head_cpus=0, cpus=2) as cluster, tempfile.TemporaryDirectory() as folder:
            # An actor that would forget what it knows holds its node to the end.
            program = cluster.start_program("cluster-keeper", "live", folder)
            program.wait_for("tick 5")
            hosts = [node for node in cluster.nodes[1:] if "Forgetful" in cluster.log_of(node)]
            self.assertEqual(len(hosts), 1)
            hosts[0].process.send_signal(signal.SIGTERM)
            program.wait_for("tick 30")
            self.assertIsNone(hosts[0].process.poll())
            self.assertEqual(hosts[0].kill(signal.SIGTERM), 0)
            program.process.wait(timeout=60)
            self.assertIn("the node was drained and its time was up", program.said.read_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
