"""Compares our token ids with the reference tokenizer's: every text of Parquet files, or a great many hostile ones.

    python check_corpus.py MODEL_DIR TOKENIZE_DUMP FILE.parquet...      (column `text`; whole, and cut to 256 tokens)
    python check_corpus.py MODEL_DIR TOKENIZE_DUMP --hostile 100000     (texts of each kind in hostile.py, and the written ones)

TOKENIZE_DUMP is the program of that name in build/release/bin. Ends with 1 when any text differs, showing the first ones.
"""
import os
import struct
import subprocess
import sys

import hostile
import pyarrow.parquet as parquet
from tokenizers import Tokenizer


def ours(program, model_dir, raws, length):
    given = b"".join(struct.pack("<I", len(raw)) + raw for raw in raws)
    made = subprocess.run([program, model_dir, str(length)], input=given, stdout=subprocess.PIPE, check=True).stdout
    out, at = [], 0
    while at < len(made):
        count = struct.unpack_from("<I", made, at)[0]
        out.append(list(struct.unpack_from(f"<{count}i", made, at + 4)))
        at += 4 + 4 * count
    return out


def reference(model_dir, raws, length):
    tokenizer = Tokenizer.from_file(os.path.join(model_dir, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if length:
        tokenizer.enable_truncation(length)
    return [made.ids for made in tokenizer.encode_batch([raw.decode("utf-8", "replace") for raw in raws])]


def main():
    model_dir, program, *rest = sys.argv[1:]
    if rest[0] == "--hostile":
        raws, lengths = hostile.texts(seed=2, random_count=int(rest[1])), (0, 2, 17)
    else:
        raws = [text.encode() for path in rest for text in parquet.read_table(path, columns=["text"])["text"].to_pylist()]
        lengths = (0, 256)
    differ = 0
    for length in lengths:
        a, b = ours(program, model_dir, raws, length), reference(model_dir, raws, length)
        assert len(a) == len(b) == len(raws)
        wrong = [i for i in range(len(raws)) if a[i] != b[i]]
        differ += len(wrong)
        print(f"{len(raws)} texts, {sum(map(len, b))} ids, {'cut to ' + str(length) if length else 'whole'}: {len(wrong)} differ")
        for i in wrong[:5]:
            print(f"  {raws[i]!r:.300}\n    ours      {a[i][:40]}\n    reference {b[i][:40]}")
    sys.exit(1 if differ else 0)


main()
