"""Headers made to break a reader: each is refused with a message, in under a second and 64 MB."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import header
from support.checkpoints import same
from support.crafted import F32, compact, file_of, memory_file, ours, put, refused
from support.helpers import output_of


def crafted() -> Iterator[tuple[str, bytes]]:
    eight = b"\0" * 8
    for length in (1, 2, 7, 99, 10**8, 10**8 + 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1):
        yield f"length {length}", file_of({"x": F32}, eight, length)
    for size in range(8):
        yield f"{size} bytes", b"\x02" * size
    yield "length 0", file_of(b"", b"")
    for text in (b"", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{}{}", b"{},", b"{x}", b"{'x':1}", b"{1:2}",
                 b"{\"x\"}",
                 b'{"x":}', b'{"x":1}', b'{"x":null}', b'{"x":[]}', b'{"x":"y"}', b'{"x":{}}', b'{"x":{},}', b"{,}",
                 b"\x00",
                 b"\xef\xbb\xbf{}", b" \x0b{}", b"{}\x00", b"NaN", b"{\"\\u12\":1}", b"{\"\\x\":1}", b'{"\t":1}',
                 b"//\n{}",
                 "{}".encode("utf-16"), b"{}" + b"x" * 100, b"\xff" * 50, b"{" * 1000, b"[" * 100_000,
                 b'{"a":' * 100_000,
                 b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"x":{"shape":' + b"[" * 50_000):
        yield f"text {text[:20]!r}", file_of(text)
    good = json.dumps(F32)
    for name in ('"\\ud800"', '"\xff"', '"\\ud800\\ud801"', '"\xc0\x80"', '"\xed\xa0\x80"'):
        yield f"name {name}", file_of(b"{" + name.encode("latin-1") + b":" + good.encode() + b"}", eight)
    yield "same array twice", file_of(f'{{"x":{good},"x":{good}}}'.encode(), eight)
    yield "same array twice, escaped", file_of(f'{{"x":{good},"\\u0078":{good}}}'.encode(), eight)
    yield "metadata twice", file_of(f'{{"__metadata__":{{}},"__metadata__":{{}},"x":{good}}}'.encode(), eight)
    yield "metadata key twice", file_of(f'{{"__metadata__":{{"a":"b","a":"b"}},"x":{good}}}'.encode(), eight)
    for field in F32:
        yield f"without {field}", file_of({"x": {key: value for key, value in F32.items() if key != field}}, eight)
        text = good[:-1] + f', "{field}": {json.dumps(F32[field])}}}'
        yield f"{field} twice", file_of(f'{{"x":{text}}}'.encode(), eight)
    yield "unknown field", file_of({"x": {**F32, "note": 1}}, eight)
    for metadata in (None, [], 1, "x", {"a": 1}, {"a": None}, {"a": {}}, {"a": ["b"]}, {"a": 1.5}, True):
        yield f"metadata {metadata}", file_of({"__metadata__": metadata, "x": F32}, eight)
    for dtype in ("", "f32", "F31", "F128", "C128", "I128", "F4", "F6_E2M3", "F8_E8M0", "object", "O", "<f4", "F32 ",
                  "\0", 1, None, ["F32"], {"F32": 1}, True):
        yield f"dtype {dtype!r}", file_of({"x": {**F32, "dtype": dtype}}, eight)
    for shape in (None, 2, "2", {}, [2.0], ["2"], [None], [True], [[2]], [-2], [-1, -2], [2**63], [2**64], [10**30],
                  [1e3],
                  [2**62, 4], [2**32, 2**32], [2**31, 2**31, 2**31], [3], [1], [0], [], [2, 2], [1] * 65 + [2],
                  [1] * 100_000,
                  [0, 2**63 - 1], [2**63 - 1, 0, 2], [0, 2**62, 2]):
        yield f"shape {str(shape)[:30]}", file_of({"x": {**F32, "shape": shape}}, eight)
    for text in ("[NaN]", "[Infinity]", "[-0]", "[02]", "[2,]", "[,2]", "[2 2]", "[2", "2]", "[+2]", "[0x2]", "[2e0]",
                 "[2.]",
                 "[.2]", "[2]]", "[1_0]", "[ 2 ;]", "[" + "9" * 100_000 + "]"):
        yield f"shape {text[:20]}", file_of(f'{{"x":{{"dtype":"F32","shape":{text},"data_offsets":[0,8]}}}}'.encode(),
                                            eight)
    for offsets in (None, 8, [], [0], [0, 8, 8], [8, 0], [0, 9], [1, 9], [0, 4], [-8, 0], [0, -8], [0.0, 8.0],
                    ["0", "8"],
                    [0, 2**63], [2**63 - 8, 2**63], [2**64, 2**64 + 8], [0, 10**40], [[0], [8]], [None, None],
                    {"0": 8}, [4, 12],
                    [8, 16], [False, 8]):
        yield f"offsets {str(offsets)[:30]}", file_of({"x": {**F32, "data_offsets": offsets}}, eight)
    for a, b in (((0, 8), (0, 8)), ((0, 8), (4, 12)), ((0, 8), (9, 17)), ((8, 16), (16, 24)), ((0, 8), (16, 24)),
                 ((4, 12), (0, 8)), ((0, 8), (2**62, 2**62 + 8))):
        yield f"places {a}, {b}", file_of({"x": {**F32, "data_offsets": a}, "y": {**F32, "data_offsets": b}},
                                          b"\0" * 16)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}
    yield "empty array within another", file_of({"x": F32, "y": empty}, eight)
    yield "empty array beyond the end", file_of({"x": F32, "y": {**empty, "data_offsets": [99, 99]}}, eight)
    for data in (b"", b"\0" * 7, b"\0" * 9, b"\0" * 80_000):
        yield f"{len(data)} bytes of data", file_of({"x": F32}, data)
    yield "data without arrays", file_of({}, eight)
    yield "a zip file", b"PK\x03\x04" + bytes(100)
    yield "a pickle", b"\x80\x04\x95" + bytes(100)
    yield "zeros", bytes(1000)


def crafted_of_ours() -> Iterator[tuple[str, bytes]]:
    for key in (header.FORMAT, header.HEADER_SUM, header.SUMS, header.TREE):
        yield f"without {key}", ours('{"x":{"$array":"x"}}', **{key: None})
    for version in ("0", "2", "", "1 ", "x" * 1000):
        yield f"version {version[:9]!r}", ours('{"x":{"$array":"x"}}', optimlite=version)
    for crc in ("", "0" * 8, "g" * 8, "0" * 9, "-1", "é"):
        yield f"header checksum {crc!r}", ours('{"x":{"$array":"x"}}', optimlite_header_crc32=crc)
    for sums in ("", "{}", "[]", "null", "1", '{"x":1}', '{"x":null}', '{"x":"0"}', '{"x":"0000000G"}',
                 '{"y":"00000000"}',
                 '{"x":"00000000","y":"00000000"}', '{"x":"00000000","x":"00000000"}', "[" * 99_999):
        yield f"checksums {sums[:20]}", ours('{"x":{"$array":"x"}}', optimlite_crc32=sums)
    for tree in ("", "{", "[]", "null", "1", '"x"', "{}", "[" * 99_999, '{"a":' * 99_999,
                 '{"x":NaN,"y":{"$array":"x"}}',
                 '{"x":{"$array":"y"}}', '{"x":{"$array":1}}', '{"x":{"$array":["x"]}}', '{"x":{"$array":"x","y":1}}',
                 '{"x":{"$what":"x"}}', '{"x":{"$array":"x"},"x":{"$array":"x"}}', '{"x":{"$complex128":"x"}}',
                 '{"a":{"$array":"x"},"b":{"$float":"1"}}', '{"a":{"$array":"x"},"b":{"$float":1}}',
                 '{"a":{"$array":"x"},"b":{"$tuple":1}}', '{"a":{"$array":"x"},"b":{"$dict":{}}}',
                 '{"a":{"$array":"x"},"b":{"$dict":[1]}}', '{"a":{"$array":"x"},"b":{"$dict":[[1]]}}',
                 '{"a":{"$array":"x"},"b":{"$dict":[[1,2],[1,3]]}}', '{"a":{"$array":"x"},"b":{"$dict":[[[],2]]}}',
                 '{"a":{"$array":"x"},"b":{"$dict":[[{"$array":"x"},2]]}}',
                 '{"a":{"$array":"x"},"b":' + "9" * 5000 + "}",
                 '{"a":{"$array":"x"},"b":' + '{"$tuple":[' * 2000 + "]}" * 2000 + "}"):
        yield f"tree {tree[:40]}", ours(tree)


CRAFTED = [*crafted(), *crafted_of_ours()]


CRAFTED += [(f"{name}, compact", compact(data)) for name, data in CRAFTED if compact(data) != data]


def test_there_are_enough() -> None:
    assert len(CRAFTED) >= 200
    assert len({data for _, data in CRAFTED}) >= 200


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in CRAFTED])
def test_crafted_headers(data: bytes) -> None:
    with memory_file() as (fd, path):
        put(fd, data)
        tracemalloc.start()
        try:
            fault = refused(path)
            refused(path, lambda path: ol.load(path, mmap=True))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 64 << 20
    assert len(fault) < 1000                                  # however much of the file it quotes


def test_what_the_crafted_files_start_from_is_valid() -> None:
    with memory_file() as (fd, path):
        spaced = file_of({"x": F32}, b"\0" * 8)
        turned = file_of({"x": dict(reversed(F32.items()))}, b"\0" * 8)
        for data in (spaced, compact(spaced), turned, compact(turned), ours('{"x":{"$array":"x"}}')):
            put(fd, data)
            assert same(ol.load(path), {"x": np.zeros(2, np.float32)})
        put(fd, file_of({"x": {"dtype": "U8", "shape": [0, 2**62], "data_offsets": [0, 0]}}))
        assert ol.load(path)["x"].shape == (0, 2**62)


def test_an_entry_in_one_match_is_what_its_tokens_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(data: bytes) -> object:
        try:
            return header.parse(data[8:], len(data), len(data) + 8)
        except ValueError as fault:
            return str(fault)

    good = [file_of(json.dumps({name: {"dtype": code, "shape": shape, "data_offsets": [0, 8]}}, separators=(",", ":"))
                    .encode()) for name in ("x", "\u00e9", 'a"b') for code, shape in
            (("F32", [2]), ("I64", []), ("U8", [8, 1]), ("F16", [1] * 63 + [4]))]
    headers = [*good, *(data for _, data in CRAFTED)]
    found = [outcome(data) for data in headers]
    assert all(isinstance(each, tuple) for each in found[:len(good)])
    monkeypatch.setattr(header.Scanner, "entry", lambda self: None)
    monkeypatch.setattr(header.Scanner, "KEY", re.compile(b"(?!)"))
    assert [outcome(data) for data in headers] == found


@pytest.mark.plain
def test_a_huge_header_of_nonsense(tmp_path: Path) -> None:
    """Sparse files of headers up to the limit: refused at the first wrong token."""
    script = """
        import resource, time, optimlite as ol
        try: ol.load("small")
        except ol.CheckpointError: pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        try: ol.load("a")
        except ol.CheckpointError as fault: print(fault)
        assert time.perf_counter() - start < 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    """
    (tmp_path / "small").write_bytes(file_of(b"[]"))
    for start, count in ((b'{"x":', 30_000_000), (b'{"x":{"shape":[', 30_000_000)):
        with open(tmp_path / "a", "wb") as file:
            file.write(file_of(start, length=count))
            file.truncate(8 + count)
        assert "the header must have" in output_of(script, folder=tmp_path)
