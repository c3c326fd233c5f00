"""The main job's results: columns, order, agreement with the reference, nulls, and search."""
import math
import subprocess
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from embed_support import BIN, MINILM, TINY, EmbedTest, expected_rows, random_texts, table_of


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@unittest.skipUnless(MINILM.exists(), "the demo model is not installed")
class Agreement(EmbedTest):
    def test_fp32_agrees_with_the_reference(self):
        texts, expected = expected_rows()
        table = self.embed(self.write("in.parquet", table_of(texts)), "--batch-size", 5, model=MINILM)
        self.assertEqual(table["id"].to_pylist(), list(range(len(texts))))
        self.assertEqual(table["text"].to_pylist(), texts)
        self.assertEqual(table.schema.field("embedding").type, pa.list_(pa.field("item", pa.float32(), False), len(expected[0])))
        for text, got, wanted in zip(texts, table["embedding"].to_pylist(), expected):
            self.assertLess(max(abs(a - b) for a, b in zip(got, wanted)), 1e-4, text)

    def test_bf16_points_the_same_way_and_search_finds_the_text_itself(self):
        texts, expected = expected_rows()
        table = self.embed(self.write("in.parquet", table_of(texts)), "--dtype", "bf16", model=MINILM)
        for text, got, wanted in zip(texts, table["embedding"].to_pylist(), expected):
            self.assertGreater(cosine(got, wanted), 0.999, text)
        question = next(text for text in texts if len(text) > 20)
        found = subprocess.run([BIN / "manta-search", "--model", MINILM, "--index", self.out, "--top", "3", question],
                               capture_output=True, text=True, check=True)
        lines = found.stdout.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertIn(question[:40], lines[1])
        self.assertGreater(float(lines[0].split()[1]), 0.99)


class Results(EmbedTest):
    def test_files_columns_and_types_pass_through_in_order(self):
        texts = random_texts(700)
        extra = pa.array([{"a": i, "b": [str(i)] * (i % 3)} for i in range(700)])
        whole = table_of(texts, extra=extra, when=pa.array(range(700), pa.timestamp("us")))
        whole = whole.set_column(1, "text", whole["text"].cast(pa.large_string()))
        for i, (start, count) in enumerate([(0, 1), (1, 399), (400, 300)]):
            self.write(f"parts/{i}.parquet", whole.slice(start, count), row_group_size=90)
        table = self.embed(f"{self.folder}/parts/*.parquet", "--batch-size", 33)
        self.assertEqual(table.drop_columns(["embedding"]).cast(whole.schema), whole)
        self.assertEqual(table.schema.field("embedding").type.list_size, len(table["embedding"][0]))
        # The batches' borders and the number of actors do not change a row by more than rounding.
        first = table["embedding"].to_pylist()
        self.out = self.out.parent / "again"
        again = self.embed(f"{self.folder}/parts", "--batch-size", 64, "--workers", "1")["embedding"].to_pylist()
        self.assertLess(max(abs(a - b) for x, y in zip(first, again) for a, b in zip(x, y)), 1e-5)

    def test_null_texts_are_empty_texts_when_asked_for(self):
        source = self.write("in.parquet", table_of(["one", None, "two", ""]))
        rows = self.embed(source, "--nulls", "empty")
        self.assertEqual(rows["text"].to_pylist(), ["one", None, "two", ""])
        self.assertEqual(rows["embedding"][1], rows["embedding"][3])
        self.assertEqual(rows["embedding"].null_count, 0)

    def test_no_rows_give_a_schema(self):
        table = self.embed(self.write("in.parquet", table_of([])))
        self.assertEqual(table.num_rows, 0)
        self.assertEqual(table.schema.names, ["id", "text", "embedding"])


class SearchErrors(EmbedTest):
    def refuse(self, index, *parts):
        done = subprocess.run([BIN / "manta-search", "--model", TINY, "--index", index, "question"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        for part in parts:
            self.assertIn(part, done.stderr)

    def test_what_is_no_index_is_refused(self):
        self.refuse(self.folder / "none", "not_found", "none")
        self.refuse(self.folder, "not_found", "*.parquet")
        path = self.write("i/a.parquet", table_of(["x"]))
        self.refuse(path.parent, "a.parquet", "'embedding'")
        pq.write_table(table_of(["x"], embedding=pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))), path)
        self.refuse(path.parent, "a.parquet", "2 numbers", "another model")
        path.write_bytes(path.read_bytes()[:-20])
        self.refuse(path.parent, "invalid", "a.parquet")


if __name__ == "__main__":
    unittest.main()
