"""Jobs submitted to a cluster of this machine: their logs, ends and second attempts."""
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import unittest.mock

import cluster
from cluster import BIN, DEADLINE_S, Cluster, wait_until

JOB = BIN / "cluster-job"


class Client:
    """Somebody at a machine of their own who has the command line and a key."""

    def __init__(self, cluster, role="driver"):
        cluster.count += 1
        self.prefix, env = cluster.make_place(role, f"client-{cluster.count}")
        self.flags = ["--address", cluster.address]
        if "MANTA_KEYS" in env:
            self.flags += ["--keys", env["MANTA_KEYS"], "--join-token", env["MANTA_JOIN_TOKEN"]]

    def words(self, *words):
        return [*self.prefix, str(BIN / "manta"), *self.flags, *map(str, words)]

    def run(self, *words, code=0, timeout_s=DEADLINE_S):
        """What it printed."""
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=timeout_s)
        if code is not None and done.returncode != code:
            raise AssertionError(f"{words} exited with {done.returncode}, not {code}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *words, out):
        return subprocess.Popen(self.words(*words), stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def jobs(self):
        return {int(row["job"]): row for row in json.loads(self.run("jobs", "-o", "json"))["rows"]}

    def state(self, job):
        return self.jobs()[int(job)]["state"]

    def wait_for(self, job, state):
        wait_until(lambda: self.state(job) == state)


def lines(count):
    return "".join(f"line {i:07}\n" for i in range(count))


class JobsTest(unittest.TestCase):

    def setUp(self):
        self.cluster = Cluster(nodes=3)
        self.client = Client(self.cluster)

    def tearDown(self):
        if any(error for _, error in getattr(self._outcome, "errors", [])) or getattr(self._outcome, "result", None) is None:
            print(self.cluster.logs())
        self.cluster.close()

    def node_of(self, job):
        """The node that runs it, of those that the test started."""
        number = int(self.client.jobs()[int(job)]["node"])
        return next(node for node in self.cluster.nodes
                    if (number == 1) == (node is self.cluster.head)
                    and (number == 1 or node.wait_for("mantad: joined ").endswith(f"node {number}")))

    def test_wait_gives_log_and_exit_code(self):
        self.assertEqual(self.client.run("submit", "--wait", JOB, "lines", 20000, 0, 3, code=3), lines(20000))
        self.assertIn("the sum is 42", self.client.run("submit", "--wait", JOB, "sum"))
        job = self.client.run("submit", "--name", "lost", JOB, "sum").strip()
        self.client.wait_for(job, "succeeded")
        self.assertEqual(self.client.jobs()[int(job)]["name"], "lost")

    def test_a_killed_client_changes_nothing_and_another_reads_on(self):
        job = self.client.run("submit", JOB, "lines", 400, 10, 0).strip()
        part = self.cluster.folder / "part.txt"
        with open(part, "wb") as out:
            follower = self.client.start("logs", "-f", job, out=out)
            wait_until(lambda: part.stat().st_size > 500)
            follower.kill()
            follower.communicate()
        self.assertEqual(self.client.state(job), "running")
        other = Client(self.cluster)
        rest = other.run("logs", "-f", "--offset", part.stat().st_size, job)
        self.assertEqual(part.read_text() + rest, lines(400))
        # And once it is over, from where one likes.
        self.assertEqual(other.run("logs", job), lines(400))
        self.assertEqual(other.run("logs", "--offset", 13, job), lines(400)[13:])

    def test_a_client_that_dies_while_it_waits_attaches_again(self):
        with open(self.cluster.folder / "first.txt", "wb") as out:
            first = self.client.start("submit", "--key", "k", "--wait", JOB, "lines", 300, 10, 5, out=out)
            wait_until(lambda: (self.cluster.folder / "first.txt").stat().st_size > 300)
            first.kill()
            first.communicate()
        self.assertEqual(Client(self.cluster).run("submit", "--key", "k", "--wait", JOB, "lines", 300, 10, 5, code=5), lines(300))

    def test_the_same_key_runs_once(self):
        notes = self.cluster.folder / "notes.txt"
        # All at once, and the first of this client: they also share the making of its keys.
        submits = [self.client.start("submit", "--key", "one", JOB, "note", notes, 300, out=subprocess.PIPE) for _ in range(4)]
        said = [submit.communicate(timeout=DEADLINE_S) for submit in submits]
        jobs = {out for out, _ in said}
        self.assertEqual(len(jobs), 1, said)
        self.client.run("logs", "-f", int(jobs.pop()))
        self.client.run("submit", "--wait", "--key", "one", JOB, "note", notes, 300)
        self.assertEqual(notes.read_text(), "ran\n")
        other = subprocess.run(self.client.words("submit", "--key", "one", JOB, "sum"), capture_output=True, text=True)
        self.assertNotEqual(other.returncode, 0)
        self.assertIn("other arguments", other.stderr)

    def test_stop_and_deadline(self):
        job = self.client.run("submit", JOB, "lines", 1000000, 50, 0).strip()
        self.client.wait_for(job, "running")
        pid = int(self.client.jobs()[int(job)]["pid"])
        self.assertTrue(pathlib.Path(f"/proc/{pid}").exists())
        self.client.run("stop", job)
        self.client.run("logs", "-f", job, code=143)
        self.assertEqual(self.client.state(job), "stopped")
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())
        self.client.run("submit", "--wait", "--deadline", "1s", JOB, "lines", 1000000, 50, 0, code=124)

    def test_a_killed_driver_runs_again_if_it_may(self):
        mark = self.cluster.folder / "mark"
        said = self.client.run("submit", "--wait", "--retries", 1, JOB, "die", mark)
        self.assertEqual(said.count("here as"), 2)
        mark.unlink()
        self.client.run("submit", "--wait", JOB, "die", mark, code=128 + signal.SIGKILL)
        self.client.run("submit", "--wait", "--retries", 3, JOB, "nonsense", code=2)

    def test_a_killed_node_takes_a_job_to_another(self):
        job = self.client.run("submit", "--retries", 1, JOB, "lines", 150, 20, 0).strip()
        wait_until(lambda: len(self.client.run("logs", job)) > 500)
        node = self.node_of(job)
        self.assertIsNot(node, self.cluster.head)
        pid = int(self.client.jobs()[int(job)]["pid"])
        node.kill()
        wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), timeout_s=5)
        log = self.client.run("logs", "-f", job)
        self.assertTrue(log.endswith(lines(150)))
        first = log[:-len(lines(150))]
        self.assertGreater(len(first), 500)
        self.assertEqual(first, lines(150)[:len(first)])  # as far as it had come
        self.assertEqual(self.client.jobs()[int(job)]["attempt"], "2")
        self.client.run("submit", "--wait", JOB, "sum")

    def test_a_drained_node_waits_for_its_drivers(self):
        job = self.client.run("submit", JOB, "lines", 60, 50, 0).strip()
        self.client.wait_for(job, "running")
        node = self.node_of(job)
        self.client.run("drain", self.client.jobs()[int(job)]["node"])
        self.assertEqual(self.client.run("logs", "-f", job), lines(60))
        self.assertEqual(node.process.wait(timeout=DEADLINE_S), 0)

    def test_a_killed_head_changes_nothing(self):
        job = self.client.run("submit", "--retries", 1, JOB, "lines", 400, 10, 9).strip()
        part = self.cluster.folder / "part.txt"
        with open(part, "wb") as out:
            follower = self.client.start("logs", "-f", job, out=out)
            wait_until(lambda: part.stat().st_size > 500)
            self.cluster.restart_head()
            follower.communicate(timeout=DEADLINE_S)
        self.assertEqual(follower.returncode, 9)
        self.assertEqual(part.read_text(), lines(400))
        self.assertEqual(self.client.jobs()[int(job)]["attempt"], "1")

    def test_what_people_see(self):
        self.client.run("submit", "--wait", "--name", "sevens", JOB, "lines", 3, 0, 7, code=7)
        head, row = self.client.run("jobs").splitlines()
        self.assertEqual(head.split()[:3], ["job", "state", "name"])
        self.assertRegex(row, r"^1 +failed +sevens .* 7 +its driver exited with code 7$")
        self.assertIn("line 0000002", self.client.run("explain", 1))
        self.assertIn("jobs     1 failed\n", self.client.run("status"))
        for words in [("logs", 2), ("stop", 2), ("submit",), ("submit", "--bogus", JOB), ("submit", "/etc/passwd")]:
            self.client.run(*words, code=1)

    def test_a_driver_finds_a_folder_of_its_own_and_gains_no_rights(self):
        said = self.client.run("submit", "--wait", "--env", "COLOR=green", JOB, "look")
        self.assertRegex(said, r"NoNewPrivs:\s*1")
        self.assertIn("color green", said)
        self.assertIn("files 0", said)
        folder = said.split("folder ")[1].splitlines()[0]
        wait_until(lambda: not os.path.exists(folder))

    def test_detached_actors_outlive_their_job(self):
        self.assertIn("the count is 1", self.client.run("submit", "--wait", JOB, "leave", "ghost"))
        self.assertIn("the count is 2", self.client.run("submit", "--wait", JOB, "meet", "ghost"))

    def test_a_viewer_may_look_and_change_nothing(self):
        job = self.client.run("submit", JOB, "lines", 1, 0, 0).strip()
        self.client.wait_for(job, "succeeded")
        if self.cluster.keys is None:
            self.skipTest("without keys there are no roles")
        viewer = Client(self.cluster, "viewer")
        self.assertEqual(viewer.run("logs", job), lines(1))
        for words in [("submit", JOB, "sum"), ("stop", job)]:
            viewer.run(*words, code=1)
        self.assertEqual(len(viewer.jobs()), 1)


@unittest.skipUnless(os.geteuid() == 0, "only root can run jobs as another user")
class JobUserTest(unittest.TestCase):

    def setUp(self):
        # Where everybody can run them, as what is installed: the build may lie in a folder of root's alone.
        programs = tempfile.TemporaryDirectory()
        self.addCleanup(programs.cleanup)
        os.chmod(programs.name, 0o755)
        for name in ("mantad", "manta", "cluster-job"):
            shutil.copy(BIN / name, programs.name)
        patch = unittest.mock.patch.object(cluster, "BIN", pathlib.Path(programs.name))
        patch.start()
        self.addCleanup(patch.stop)
        self.cluster = Cluster(nodes=3, flags=["--job-user", "nobody"])
        os.chmod(self.cluster.folder, 0o711)
        self.client = Client(self.cluster)

    def tearDown(self):
        JobsTest.tearDown(self)

    def test_jobs_run_as_another_user_and_see_nothing_of_the_nodes(self):
        uid = pwd.getpwnam("nobody").pw_uid
        closed = [self.cluster.folder, self.cluster.folder / "state", self.cluster.folder / "state" / "head.db"]
        if self.cluster.keys is not None:
            closed += [self.cluster.keys, *self.cluster.keys.iterdir()]
        for node in self.cluster.nodes:
            closed += [node.folder / "session", node.folder / "session" / "jobs", node.folder / "session" / "mantad.sock"]
            closed += node.folder.glob("mantad-*.log")
        said = self.client.run("submit", "--wait", JOB, "spy", *closed)
        whom = f"uid {uid} of {uid} groups "
        self.assertEqual(said.count(whom), 7, said)
        self.assertEqual(said.count(f"opened 0 of {len(closed)} root -1"), 7, said)
        self.assertIn("wrote 17", said)
        self.assertIn("the sum is 42", self.client.run("submit", "--wait", JOB, "sum"))
        # And a driver that joins by itself has its workers run so.
        done = self.cluster.run("cluster-job", "spy", *closed)
        self.assertEqual(done.stdout.count(whom), 6, done.stdout + done.stderr)

    def test_its_folder_goes_and_stop_reaches_it(self):
        job = self.client.run("submit", JOB, "lines", 1000000, 50, 0).strip()
        self.client.wait_for(job, "running")
        pid = int(self.client.jobs()[int(job)]["pid"])
        folder = pathlib.Path(os.readlink(f"/proc/{pid}/cwd"))
        self.assertEqual(folder.stat().st_uid, pwd.getpwnam("nobody").pw_uid)
        self.client.run("stop", job)
        self.client.run("logs", "-f", job, code=143)
        wait_until(lambda: not folder.exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
