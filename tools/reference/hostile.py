"""Texts a tokenizer can get wrong. Each is bytes, since a text from a file need not be valid UTF-8."""
import random

WRITTEN = [
    "", " ", "\t\n\r ", "\u00a0\u2003\u3000", "\x00", "\x00\x01\x02", "\ufeff", "\ufffd", "a\x00b", "soft\u00adhyphen", "zero\u200bwidth\u200djoin",
    "Hello, world!", "HELLO WORLD", "don't", "e-mail: a.b+c@example.org", "wait(2)", "#include <sys/wait.h>", "$PATH=/usr/bin:~/x",
    "C++20's std::span<const T>", "x86_64-linux-gnu", "3.14159e-10", "...!!!???", "a\tb\nc\rd\x0be\x0cf", "line one\r\nline two",
    "na\u00efve caf\u00e9 r\u00e9sum\u00e9", "nai\u0308ve cafe\u0301", "\u00c5ngstr\u00f6m \u212b", "\u0130stanbul \u0131", "stra\u00dfe STRASSE \u1e9e",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03c2", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0419\u0451", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u0645\u064e\u0631\u062d\u064e\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8", "\u1112\u1161\u11ab", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u4e2d\u6587abc\u6587\u5b57", "\u5317\u4eac\u5e02\uff0c\u4e2d\u56fd\u3002",
    "\uf900\ufa0e", "\U00020000\U0002a6d6", "\U0002f800", "\u3400\u4dbf", "\uff21\uff22\uff23 \uff11\uff12\uff13", "\ufb01ne \ufb02ow", "\u2126 \u03a9",
    "\U0001f600 smile", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "a\U0001f44d\U0001f3fdb", "\u0301leading mark", "a" + "\u0301" * 50,
    "\u0316\u0301e\u0301\u0316", "\u302e\u302f\uac00\u302e", "\U0001d165\U0001d16d", "q\u0307\u0323", "\u1e69 s\u0323\u0307", "\u0344\u0343",
    "\u2018single\u2019 \u201cdouble\u201d \u2013 \u2014 \u2026 \u2212 \u2010", "\u00ab\u00bb \u00a1\u00bf \u00b7 \u00a7\u00b6", "\u20ac\u00a3\u00a5 \u2122\u00ae\u00a9 \u2190\u2191\u2192", "\u166d \u1734 \u1885 \ua9bd \U000111c9", "\u2e43 \u0a76 \u1b7d",
    "\u0378 \ufdd0 \ue000 \U000f0000 \uffff", "\ua7cb \U00010d50 \U00016ea0 \u1c89", "x" * 99, "x" * 100, "x" * 101, "x" * 5000, "\u00fc" * 100, "\u00fc" * 101, "\u00fc" * 5000,
    "y" * 60 + "\x01" + "y" * 40, "y" * 60 + "\x01" + "y" * 41, "z" * 200 + " ok", "\u65e5" * 600, "word " * 400, "." * 600,
    "[CLS] [SEP] [MASK] [PAD] [UNK]", "[cls][sep]", "a[SEP]b", "[SEP", "SEP]", "[[SEP]]", "[MASK]ed", "[ SEP ]", "[SE\x00P]", "[S\u00c9P]", "[SEP][SEP]",
    "##ing", "# #ing", "unaffable", "antidisestablishmentarianism", "qzxjkv", "supercalifragilisticexpialidocious", "\u00e9" * 3 + "[SEP]" + "\u00df",
    "a.b,c;d:e", "'''", "\"quoted\"", "100%", "1,000,000.00", "foo_bar__baz", "a/b\\c|d", "tab\u0085next", "line\u2028sep\u2029para", "\u180e\u1680", "\u2060\u2061",
]
BROKEN = [
    b"\xff", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"ab\xffcd", b"ab\xe2\x82cd", b"\xe2\x82\xe2\x82\xac",
    b"\x80\x80\x80", b"caf\xc3\xa9 caf\xe9", b"[SE\xffP]", b"[SEP]\xff[SEP]", b"\xf0\x9f\x98[SEP]", b"x" * 60 + b"\xff" * 60, b"\xf0\x80\x80\x80", b"\xe0\x9f\xbf", b"a\xcc", b"\xef\xbf\xbd",
]


def random_text(source):
    """Up to 60 code points, most of them from where the rules are: marks, spaces, controls, CJK, rare planes."""
    def point():
        kind = source.random()
        if kind < 0.25:
            return source.randrange(32, 127)
        if kind < 0.35:
            return ord(source.choice(" \t\n\r\x0b\x0c\x00\x01\x7f\x85\xa0\u2028\u200d\ufeff\ufffd"))
        if kind < 0.5:
            return source.randrange(0x80, 0x600)
        if kind < 0.6:
            return source.randrange(0x300, 0x370)
        if kind < 0.8:
            return source.randrange(0x80, 0x3200)
        if kind < 0.9:
            return source.choice([source.randrange(0x3000, 0xD800), source.randrange(0xE000, 0x10000)])
        return source.randrange(0x10000, 0x110000)
    return "".join(chr(point()) for _ in range(source.randrange(60))).encode()


def random_bytes(source):
    """Up to 40 bytes of broken UTF-8."""
    def byte():
        return source.choice([source.randrange(256), source.randrange(0xC0, 0x100), source.randrange(0x80, 0xC0), 0x61, 0xE2, 0x80, 0x94])
    return bytes(byte() for _ in range(source.randrange(40)))


def random_pieces(source):
    """Special tokens, near misses and words around the longest that is no unknown token."""
    pieces = ["[SEP]", "[CLS]", "[MASK]", "[UNK]", "[PAD]", "[sep]", "[", "SEP", "]", "a", " ", "\u00e9", "##ing", "x" * source.randrange(90, 110),
              "\u00fc" * source.randrange(90, 110), "\u65e5\u672c", "\u200b", "foo", "\u2014", "\u2019", "e\u0301", "\u302e"]
    return "".join(source.choice(pieces) for _ in range(source.randrange(12))).encode()


def texts(seed=1, random_count=150):
    source = random.Random(seed)
    out = [text.encode() for text in WRITTEN] + BROKEN
    for make in (random_text, random_bytes, random_pieces):
        out += [make(source) for _ in range(random_count)]
    return out
