"""Placement groups and placement options on clusters of this machine."""
import re
import signal
import unittest

from cluster import Cluster


class GroupsTest(unittest.TestCase):

    def check(self, cluster, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        print(done.stdout, end="")
        return done.stdout

    def test_groups_are_made_and_removed(self):
        with Cluster(nodes=3) as cluster:
            for at_once in (1, 50):
                self.assertRegex(self.check(cluster, cluster.run("cluster-groups", "rate", 400, at_once)), r"made and removed")
            # Nothing is left behind.
            self.assertIn("the sum of 1000 products", self.check(cluster, cluster.run("manta-example-hello-tasks")))

    def test_work_runs_where_it_was_asked_to(self):
        with Cluster(nodes=3, labels=["place=first", "place=second", "place=third"]) as cluster:
            self.assertIn("everything ran where it should", self.check(cluster, cluster.run("cluster-groups", "places")))

    def test_what_waits_in_a_group_has_the_bundle_that_gets_free(self):
        with Cluster(nodes=3) as cluster:
            self.assertIn("each bundle that got free", self.check(cluster, cluster.run("cluster-groups", "busy", timeout_s=120)))

    def test_what_does_not_fit_waits_and_says_why(self):
        with Cluster(nodes=3) as cluster:
            said = self.check(cluster, cluster.run("cluster-groups", "waits"))
            self.assertRegex(said, r"STRICT_SPREAD of 4 bundles needs as many nodes, 3 take work")
            self.assertRegex(said, r"bundle 1: .*needs 3 GPU")

    def test_rivals_never_hold_half_of_what_they_need(self):
        with Cluster(nodes=3) as cluster:
            self.assertIn("20 pairs of rivals", self.check(cluster, cluster.run("cluster-groups", "rivals", 20)))

    def test_a_group_that_lost_a_node_is_set_aside_anew(self):
        with Cluster(nodes=4) as cluster:
            program = cluster.start_program("cluster-groups", "lost")
            node = int(re.search(r"on node (\d+)", program.wait_for("the actor is on node")).group(1))
            cluster.nodes[node - 1].kill(signal.SIGKILL)
            program.wait_for("the group was set aside anew", timeout_s=60)
            self.assertEqual(program.process.wait(timeout=20), 0)

    def test_workers_see_the_devices_of_their_bundles(self):
        with Cluster(nodes=3, flags=["--gpus", "2"]) as cluster:
            self.assertIn("12 workers see", self.check(cluster, cluster.run("cluster-groups", "devices")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
