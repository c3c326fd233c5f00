"""Quotas of jobs on several nodes: never more, and everybody ends."""
import os
import re
import signal
import time
import unittest

from cluster import DEADLINE_S, Cluster, Program


class QuotaTest(unittest.TestCase):

    def start(self, cluster, quota, *words):
        """A program of its own place whose job has this quota."""
        os.environ["MANTA_QUOTA"] = quota
        try:
            return cluster.start_program("cluster-quota", *words)
        finally:
            del os.environ["MANTA_QUOTA"]

    def end_of(self, cluster, program, timeout_s=120):
        code = program.process.wait(timeout=timeout_s)
        said = program.said.read_text()
        self.assertEqual(code, 0, said + cluster.logs())
        return said

    def test_a_job_with_a_quota_never_has_more_and_both_end(self):
        with Cluster(nodes=3, cpus=3) as cluster:
            self.assertIn("0 deep", cluster.run("cluster-quota", "nested", 0).stdout)  # its place has a key now
            other = cluster.start_program("cluster-quota", "many", 60, 20)
            small = self.start(cluster, "cpus=2", "many", 60, 20)
            self.assertIn("60 tasks, at most 2 at a time", self.end_of(cluster, small))
            self.end_of(cluster, other)

    def test_nested_tasks_under_a_quota_of_one_end(self):
        with Cluster(nodes=2, cpus=2) as cluster:
            self.assertIn("20 deep", self.end_of(cluster, self.start(cluster, "cpus=1", "nested", 20)))

    def test_more_than_the_whole_quota_is_refused(self):
        with Cluster(nodes=2, cpus=4) as cluster:
            self.assertIn("more than the whole quota of its job: asks for 3 CPUs, the quota is 2 CPUs",
                          self.end_of(cluster, self.start(cluster, "cpus=2", "beyond", 3)))

    def test_what_waits_for_a_quota_says_so(self):
        with Cluster(nodes=2, cpus=4) as cluster:
            program = self.start(cluster, "cpus=2", "wait")
            program.wait_for("two are there")
            look = cluster.visitor("viewer")
            why = "it waits for its job's quota: it asks for 1 CPU, the quota is 2 CPUs, the job holds 2 CPUs"
            for what, column in (("actors", "cause"), ("tasks", "why"), ("placement-groups", "why")):
                deadline = time.monotonic() + DEADLINE_S
                while True:
                    rows = [row for row in look.rows(what) if why in row.get(column, "")]
                    if rows:
                        break
                    self.assertLess(time.monotonic(), deadline, f"{what}: {look.rows('list', what)}")
                    time.sleep(0.1)
            jobs = [row for row in look.rows("jobs") if row["quota"] == "2 CPUs"]
            self.assertEqual([row["quota_held"] for row in jobs], ["2 CPUs"])
            program.end()

    def test_a_killed_node_and_a_head_that_starts_again_leave_the_account_right(self):
        with Cluster(nodes=4, cpus=2, head_cpus=0) as cluster:
            program = self.start(cluster, "cpus=2", "many", 600, 20)
            look = cluster.visitor("viewer")
            self.wait_until_held(look, "2 CPUs")
            cluster.nodes[2].kill(signal.SIGKILL)
            self.wait_until_held(look, "2 CPUs")
            cluster.restart_head()
            said = self.end_of(cluster, program, timeout_s=180)
            most = int(re.search(r"at most (\d+) at a time", said)[1])
            self.assertLessEqual(most, 2, said)

    def wait_until_held(self, look, amount):
        deadline = time.monotonic() + DEADLINE_S
        while not any(row.get("quota_held") == amount for row in look.rows("jobs")):
            self.assertLess(time.monotonic(), deadline, look.rows("jobs"))
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main(verbosity=2)
