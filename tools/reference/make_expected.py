"""Writes the values our models are tested against, out of the reference implementations.

    python make_expected.py MODEL_DIR OUT_DIR      (MODEL_DIR: the folder of all-MiniLM-L6-v2; OUT_DIR: torch/testdata)

Deterministic for the versions in requirements.txt. Writes
    tokens.jsonl          the hostile texts with their token ids, whole and cut to several lengths
    unicode_blocks.txt    a digest of what normaliser and pre-tokenizer make of every code point, by blocks of 4,096
    passages.jsonl        sample passages; embeddings.f32: their embeddings by sentence-transformers, row by row
    tiny/                 a BERT of 2 layers with random weights as a model folder, and tiny.jsonl: its embeddings by variant
    scripted.pt           a TorchScript module of two inputs
"""
import json
import os
import random
import shutil
import sys

import numpy as np
import torch
import hostile
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel

WORDS = """the a process may wait for its child to change state and then read what it wrote into a pipe or file descriptor when an
error occurs errno is set signal handlers run on the stack of thread that was interrupted memory mapped pages are shared between tensors
sorting arrays takes comparison function owner group permission bits directory entries symbolic links resolve relative path kernel returns
number bytes written socket address family stream datagram clock time seconds nanoseconds locale character conversion string format""".split()


def write_lines(path, rows):
    with open(path, "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def text_fields(raw):
    """Readable where it can be, hexadecimal where the bytes are no UTF-8."""
    try:
        return {"text": raw.decode()}
    except UnicodeDecodeError:
        return {"hex": raw.hex()}


def reference_tokenizer(model_dir):
    tokenizer = Tokenizer.from_file(os.path.join(model_dir, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def write_tokens(model_dir, out_dir):
    tokenizer = reference_tokenizer(model_dir)
    rows = []
    for raw in hostile.texts():
        text = raw.decode("utf-8", "replace")
        ids = tokenizer.encode(text).ids
        if len(ids) > 300:
            ids = None      # the digest of a long list would say no more than its cut forms do
        cut = {}
        for length in (2, 3, 16, 128):
            tokenizer.enable_truncation(length)
            cut[length] = tokenizer.encode(text).ids
            tokenizer.no_truncation()
            if ids is not None and len(ids) <= length:
                del cut[length]
        rows.append({**text_fields(raw), "ids": ids, "cut": cut})
    write_lines(os.path.join(out_dir, "tokens.jsonl"), rows)


def fnv1a(data, value=0xCBF29CE484222325):
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def write_unicode(out_dir):
    """For every code point c the words of "a<c>b", uncased and cased; words end in \\n, code points in \\0."""
    split = BertPreTokenizer()
    forms = [BertNormalizer(), BertNormalizer(lowercase=False, strip_accents=False)]
    with open(os.path.join(out_dir, "unicode_blocks.txt"), "w") as out:
        for block in range(0, 0x110000, 4096):
            made = bytearray()
            for point in range(block, block + 4096):
                if 0xD800 <= point < 0xE000:
                    continue
                for form in forms:
                    for word, _ in split.pre_tokenize_str(form.normalize_str("a" + chr(point) + "b")):
                        made += word.encode() + b"\n"
                made += b"\0"
            out.write(f"{block:06x} {fnv1a(made):016x}\n")


def sample_passages():
    source = random.Random(7)
    out = ["", "one", "Wait for a child process to finish."]
    for words in (5, 11, 23, 47, 60, 90, 90, 118, 150, 230, 400):
        out.append(" ".join(source.choice(WORDS) for _ in range(words)).capitalize() + ".")
    return out + ["caf\u00e9 \u2014 na\u00efve \u65e5\u672c\u8a9e \U0001f600 [SEP] tail", "x" * 300 + " after an overlong word"]


def write_embeddings(model_dir, out_dir):
    model = SentenceTransformer(model_dir, device="cpu")
    passages = sample_passages()
    rows = np.stack([model.encode([text], convert_to_numpy=True)[0] for text in passages]).astype("<f4")
    write_lines(os.path.join(out_dir, "passages.jsonl"), [{"text": text} for text in passages])
    rows.tofile(os.path.join(out_dir, "embeddings.f32"))


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        json.dump(value, out, indent=1)
        out.write("\n")


def tiny_pooling(mode):
    return {"word_embedding_dimension": 32, **{f"pooling_mode_{name}": name.startswith(mode) for name in ("cls_token", "mean_tokens", "max_tokens")}}


def write_tiny(out_dir):
    folder = os.path.join(out_dir, "tiny")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set(WORDS)) + [c for c in "abcdefghijklmnopqrstuvwxyz.,!"] + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz"]
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=40,
                        initializer_range=0.4)
    model = BertModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():        # LayerNorms and biases that are not just ones and zeros
        if name.endswith("bias") or "LayerNorm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    for extra in os.listdir(folder):
        if extra not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(folder, extra))
    with open(os.path.join(folder, "vocab.txt"), "w") as out:
        out.write("\n".join(vocabulary) + "\n")
    write_json(os.path.join(folder, "tokenizer_config.json"), {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 40})
    write_json(os.path.join(folder, "sentence_bert_config.json"), {"max_seq_length": 24, "do_lower_case": False})
    write_json(os.path.join(folder, "1_Pooling/config.json"), tiny_pooling("mean"))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(os.path.join(folder, "modules.json"), [{"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind} for i, (path, kind) in enumerate(modules)])

    texts, rows = sample_passages()[:9], []
    for mode in ("mean", "cls", "max"):
        for normalized in (True, False):
            variant = os.path.join(out_dir, "variant")
            shutil.copytree(folder, variant)
            os.makedirs(os.path.join(variant, "2_Normalize"))
            write_json(os.path.join(variant, "1_Pooling/config.json"), tiny_pooling(mode))
            write_json(os.path.join(variant, "modules.json"), json.load(open(os.path.join(folder, "modules.json")))[: 3 if normalized else 2])
            encoder = SentenceTransformer(variant, device="cpu")
            for text in texts:
                made = encoder.encode([text], convert_to_numpy=True)[0]
                rows.append({"pooling": mode, "normalized": normalized, "text": text, "embedding": [round(float(x), 7) for x in made]})
            shutil.rmtree(variant)
    write_lines(os.path.join(out_dir, "tiny.jsonl"), rows)


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6, dtype=torch.float32).reshape(2, 3))

    def forward(self, x, shift):
        if x.size(0) == 0:
            raise ValueError("no rows")
        return x @ self.weight + shift, (x > 0).long()


def main():
    model_dir, out_dir = sys.argv[1:3]
    torch.set_num_threads(1)
    os.makedirs(out_dir, exist_ok=True)
    write_tokens(model_dir, out_dir)
    write_unicode(out_dir)
    write_embeddings(model_dir, out_dir)
    write_tiny(out_dir)
    torch.jit.script(Scripted()).save(os.path.join(out_dir, "scripted.pt"))


main()
