"""The main job while processes die: actors, the driver, and Ctrl-C."""
import random
import signal
import time
import unittest

import pyarrow.parquet as pq

from embed_support import DEADLINE_S, EmbedTest, children_of, is_alive, kill, random_texts, table_of, wait_until

KILLS = 10


class Kills(EmbedTest):
    def source(self, rows=40_000):
        return self.write("in.parquet", table_of(random_texts(rows)), row_group_size=5_000)

    def working(self, process):
        """The job with an actor that holds its model, or a failed test."""
        if not wait_until(lambda: process.poll() is not None or self.actors_of(process)):
            self.fail("no actor came up")
        self.assertIsNone(process.poll(), "the job ended before it could be disturbed")

    def test_ten_killed_actors_change_nothing(self):
        source = self.source()
        start = time.monotonic()
        undisturbed = self.embed(source, "--batch-size", 16)
        longest_pause = (time.monotonic() - start) / KILLS / 2  # so that ten kills come before the end on any machine
        self.out = self.out.parent / "disturbed"
        seed = time.time_ns() % 1_000_000
        chance = random.Random(seed)
        process = self.start(source, "--batch-size", 16)
        killed = 0
        while killed < KILLS and process.poll() is None:
            time.sleep(chance.uniform(0, longest_pause))
            actors = self.actors_of(process)
            if actors:
                kill(chance.choice(actors))
                killed += 1
        said, complaints = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0, f"seed {seed}: {said}{complaints}")
        self.assertEqual(killed, KILLS, f"seed {seed}: the job ended too early to be disturbed")
        disturbed = pq.read_table(self.out)
        self.assertEqual(disturbed["id"].to_pylist(), list(range(undisturbed.num_rows)), f"seed {seed}")
        self.assertTrue(disturbed.equals(undisturbed), f"seed {seed}: rows differ")

    def test_a_killed_driver_leaves_nothing(self):
        process = self.start(self.source(), "--batch-size", 16)
        self.working(process)
        family = children_of(process.pid)
        self.assertTrue(any(program.endswith("mantad") for program in family.values()), family)
        kill(process.pid)
        process.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in family) and not list(self.out.parent.iterdir()), timeout_s=2)
        self.assert_nothing_left(family)

    def test_ctrl_c_says_what_was_stopped(self):
        process = self.start(self.source(), "--batch-size", 16)
        self.working(process)
        family = children_of(process.pid)
        kill(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130, complaints)
        self.assertRegex(complaints, r"interrupted: stopped .*(task|call|actor)")
        wait_until(lambda: not any(is_alive(pid) for pid in family), timeout_s=2)
        self.assert_nothing_left(family)


if __name__ == "__main__":
    unittest.main()
