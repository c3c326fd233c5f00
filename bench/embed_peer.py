"""sentence-transformers on the passages of a Parquet file, sorted by length as it does, with all cores' threads: prints passages/s.

Usage: python embed_peer.py MODEL_DIR FILE RUNS (in an environment with sentence-transformers, torch and pyarrow)."""
import os
import statistics
import sys
import time

import pyarrow.parquet as pq
import torch
from sentence_transformers import SentenceTransformer, models

model_dir, path, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(os.cpu_count())
transformer = models.Transformer(model_dir, max_seq_length=256)
pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
model.encode(texts[:64], batch_size=32, show_progress_bar=False)
rates = []
for _ in range(runs):
    start = time.perf_counter()
    model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    rates.append(len(texts) / (time.perf_counter() - start))
print(f"  {'sentence-transformers, model loaded before':<58} {min(rates):10.2f} / {statistics.median(rates):10.2f} / {max(rates):10.2f} passages/s")
