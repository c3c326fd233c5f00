"""Bad input to the main job: each is said on one screen, ends with a non-zero status, and leaves nothing half-written."""
import os
import shutil
import subprocess
import unittest

import pyarrow as pa

from embed_support import DEADLINE_S, TINY, EmbedTest, random_texts, table_of


class BadInput(EmbedTest):
    def refuse(self, arguments, parts, status=1, **options):
        """The job must fail, and what it says must hold all parts."""
        process = self.start(*arguments, **options)
        said, complaint = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, status, said + complaint)
        self.assertEqual(said, "")
        for part in parts:
            self.assertIn(part, complaint)
        self.assertLessEqual(len(complaint.splitlines()), 24, complaint)
        self.assertEqual(os.listdir(self.out.parent), [], complaint)
        return complaint

    def good(self, rows=20, **columns):
        return self.write("good.parquet", table_of(random_texts(rows), **columns))

    def test_no_such_file(self):
        self.refuse([self.folder / "none.parquet"], ["not_found", "none.parquet"])
        self.refuse([self.folder / "no*.parquet"], ["not_found", "no*.parquet"])

    def test_truncated_parquet(self):
        path = self.good(2000)
        whole = path.read_bytes()
        for size in (0, 3, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            self.refuse([path], ["good.parquet"])

    def test_damaged_data_behind_a_good_footer(self):
        path = self.good(5000)
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 4:len(whole) // 2] = b"\xff" * (len(whole) // 2 - len(whole) // 4)
        path.write_bytes(whole)
        self.refuse([path], ["good.parquet"])

    def test_no_such_column_or_no_text(self):
        self.refuse([self.good(), "--column", "body"], ["invalid", "'body'", "id, text"])
        self.refuse([self.good(), "--column", "id"], ["invalid", "'id'", "int64"])
        self.refuse([self.good(embedding=pa.array([0.0] * 20))], ["invalid", "'embedding'"])

    def test_output_exists(self):
        self.out = self.folder / "there"
        self.out.mkdir()
        (self.out / "mine").write_text("kept")
        process = self.start(self.good())
        _, complaint = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 1)
        self.assertIn("there", complaint)
        self.assertEqual((self.out / "mine").read_text(), "kept")
        self.assertEqual(os.listdir(self.out), ["mine"])

    def test_output_cannot_be_made(self):
        path = self.good()
        self.out = self.folder / "no" / "such" / "parent" / "out"
        process = self.start(path)
        said, complaint = process.communicate(timeout=DEADLINE_S)
        if process.returncode == 0:  # parents are made: then the output must be whole
            self.assertTrue(self.out.is_dir())
        else:
            self.assertIn("out", complaint)
            self.assertFalse(self.out.exists())

    def test_model_folders_that_are_none(self):
        path = self.good()
        self.refuse([path], ["not_found", "nowhere"], model=self.folder / "nowhere")
        model = self.folder / "model"
        shutil.copytree(TINY, model)
        weights = model / "model.safetensors"
        whole = weights.read_bytes()
        for size in (0, 7, len(whole) // 2, len(whole) - 1):
            weights.write_bytes(whole[:size])
            self.refuse([path], ["model.safetensors"], model=model)
        weights.unlink()
        self.refuse([path], ["not_found", "model.safetensors"], model=model)
        weights.write_bytes(whole)
        (model / "vocab.txt").unlink()
        self.refuse([path], ["vocab.txt"], model=model)
        (model / "config.json").write_text("{")
        self.refuse([path], ["config.json"], model=model)

    def test_null_texts_are_refused_unless_asked_for(self):
        path = self.write("in.parquet", table_of(["one", None, "two"]))
        self.refuse([path], ["1 of 3", "'text'", "null", "--nulls empty"])

    def test_flags(self):
        path = self.good()
        for flags in (["--batch-size", "0"], ["--dtype", "int3"], ["--nulls", "maybe"], ["--nonsense"]):
            self.refuse([path, *flags], [flags[0]], status=2)
        for workers in ("3:1", "x", "1:2:3", "-1", "0:0"):
            self.refuse([path, f"--workers={workers}"], ["--workers"])
        self.refuse([path, "--max-length", "100000"], ["max_length", "100000"])

    def test_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("a small disk cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", disk])
        self.out = disk / "results" / "out"
        self.out.parent.mkdir()
        self.refuse([self.good(20_000)], ["full", "No space left"])

    def test_store_ten_times_smaller_than_a_block(self):
        self.env["MANTA_STORE_BYTES"] = str(800 << 10)  # blocks are of 8 MiB
        path = self.write("in.parquet", table_of(["a word or two " * 40] * 40_000))
        self.refuse([path, "--batch-size", "20000"], ["full"])


if __name__ == "__main__":
    unittest.main()
