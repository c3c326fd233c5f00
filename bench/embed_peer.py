"""What others need for the main job, one run in a fresh process: read Parquet, embed the column `text`, write Parquet.

    python embed_peer.py sentence-transformers|ray MODEL_DIR FILE OUT_DIR [ACTORS THREADS]

Prints `alone SECONDS` (imports, model or node there before) and `whole SECONDS` (the whole process), or `missing WHAT` when this Python
has not got the peer. sentence-transformers sorts by length as it does by itself and uses all cores' threads. Ray Data reads, maps over
a pool of actors that claim half a CPU each (with one each the read and the write never get any on a small machine) and writes."""
import importlib.util
import os
import shutil
import sys
import time

NEEDS = {"sentence-transformers": ["torch", "sentence_transformers", "pyarrow"], "ray": ["ray", "torch", "sentence_transformers", "pyarrow"]}
LIMIT_S = 1500


def load(model_dir, threads):
    import torch
    from sentence_transformers import SentenceTransformer, models

    torch.set_num_threads(threads)
    transformer = models.Transformer(model_dir, max_seq_length=256)
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")


def sentence_transformers_run(model_dir, path, out):
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = load(model_dir, os.cpu_count())
    table = pq.read_table(path)
    texts = table["text"].to_pylist()
    model.encode(texts[:64], batch_size=32, show_progress_bar=False)
    start = time.perf_counter()
    vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    print("alone", time.perf_counter() - start)
    os.makedirs(out)
    flat = pa.array(vectors.reshape(-1))
    pq.write_table(table.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])), os.path.join(out, "part.parquet"))


def ray_run(model_dir, path, out, actors, threads):
    import pyarrow.parquet as pq
    import ray

    class Embedder:
        def __init__(self, folder):
            self.model = load(folder, threads)

        def __call__(self, batch):
            batch["embedding"] = self.model.encode(list(batch["text"]), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
            return batch

    ray.init(num_cpus=os.cpu_count(), _temp_dir=os.environ["PEER_SCRATCH"] + "/ray", include_dashboard=False, log_to_driver=False,
             runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}})
    start = time.perf_counter()
    data = ray.data.read_parquet(path)
    if actors > 1:
        data = data.repartition(16)  # one small file is one block, and would keep one actor busy
    pool = ray.data.ActorPoolStrategy(size=actors)
    data.map_batches(Embedder, fn_constructor_args=(model_dir,), batch_size=64, compute=pool, num_cpus=0.5).write_parquet(out)
    print("alone", time.perf_counter() - start)
    rows = pq.read_table(out, columns=["embedding"]).num_rows
    ray.shutdown()
    if rows != pq.read_metadata(path).num_rows:
        raise SystemExit(f"{rows} rows came out")


def main(peer, model_dir, path, out, actors="1", threads="1"):
    if os.environ.get("PEER_SCRATCH"):
        if peer == "ray":
            return ray_run(model_dir, path, out, int(actors), int(threads))
        return sentence_transformers_run(model_dir, path, out)
    absent = [name for name in NEEDS[peer] if importlib.util.find_spec(name) is None]
    if absent:
        return print("missing", f"{sys.executable} has no {absent[0]}")
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "versus"))
    import bounded

    shutil.rmtree(out, ignore_errors=True)
    try:
        said, seconds = bounded.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:]], LIMIT_S)
        print("\n".join(line for line in said.splitlines() if line.startswith("alone")))
        print("whole", seconds)
    except bounded.Failed as error:
        print("missing", "it " + " ".join(str(error).split()))
    finally:
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) not in (5, 7) or sys.argv[1] not in NEEDS:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
