"""Damaged and crafted files: every flipped bit, every truncation, headers made to break a reader."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import header
from support.checkpoints import bits, same, training
from support.helpers import PATIENCE

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@contextmanager
def memory_file() -> Iterator[tuple[int, str]]:
    """A file without a disk, and its path: thousands of them take seconds."""
    fd = os.memfd_create("checkpoint")
    try:
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def put(fd: int, data: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


def small(tmp_path: Path) -> bytes:
    """A checkpoint of every kind of part, of 2 kB and more."""
    ol.save(tmp_path / "a", **training(), x=[1, (float("nan"), {2: None})], c=np.array([1j]), e=np.zeros((0, 3)))
    return (tmp_path / "a").read_bytes()


def refused(path: str, read: Any = ol.load) -> str:
    """The message of the CheckpointError that reading raises, in under a second."""
    start = time.process_time()
    with pytest.raises(ol.CheckpointError) as caught:
        read(path)
    assert time.process_time() - start < 1
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text) > len(path) + 10
    return text


@pytest.mark.rest
def test_every_flipped_bit_and_every_truncation(tmp_path: Path) -> None:
    whole = small(tmp_path)
    assert len(whole) >= 2048
    tried = named = 0
    with memory_file() as (fd, path):
        put(fd, whole)
        assert same(ol.load(path), ol.load(tmp_path / "a"))
        for place in range(len(whole)):
            for bit in range(8):
                os.pwrite(fd, bytes([whole[place] ^ 1 << bit]), place)
                try:
                    ol.load(path)
                except ol.CheckpointError as fault:
                    named += str(fault).startswith(path)
                else:
                    pytest.fail(f"bit {bit} of byte {place} went unnoticed: {whole[max(0, place - 20):place + 20]!r}")
                tried += 1
            os.pwrite(fd, whole[place:place + 1], place)
        for length in range(len(whole) - 1, -1, -1):
            os.ftruncate(fd, length)
            refused(path)
            tried, named = tried + 1, named + 1
        put(fd, whole + b"\0")
        assert "too long" in refused(path)
    assert named == tried > 18_000


def test_a_damaged_file_changes_nothing_live(tmp_path: Path) -> None:
    whole = small(tmp_path)
    live = training(seed=1)
    others = {"x": [0, (0, {2: 0})], "c": np.zeros(1, complex), "e": np.zeros((0, 3))}
    before = bits(live)
    length = int.from_bytes(whole[:8], "little")
    with memory_file() as (fd, path):
        for place in [*range(0, 8 + length, 13), *range(8 + length, len(whole))]:
            put(fd, whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1:])
            refused(path, lambda path: ol.restore(path, **live, **others))
            assert bits(live) == before
        put(fd, whole)
        ol.restore(path, **live, **others)
        assert bits(live) == bits(training())


def test_random_damage_of_several_bytes(tmp_path: Path) -> None:
    whole = np.frombuffer(small(tmp_path), np.uint8)
    random = np.random.default_rng(0)
    with memory_file() as (fd, path):
        for _ in range(2000):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), random.integers(1, 9))] = random.integers(0, 256)
            if not (damaged == whole).all():
                put(fd, damaged.tobytes())
                refused(path)


# Crafted headers -----------------------------------------------------------------------------------------------------

def file_of(text: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


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


def ours(tree: str = "{}", arrays: Any = None, **changed: str | None) -> bytes:
    """A file with our marks and valid sums, whatever its tree says."""
    arrays = {"x": np.zeros(2, np.float32)} if arrays is None else arrays
    entries = [(name, header.code_of(a.dtype), a.shape, a.nbytes) for name, a in arrays.items()]
    data = b"".join(a.tobytes() for a in arrays.values())
    text = header.build(entries, tree, {name: zlib.crc32(a.tobytes()) for name, a in arrays.items()})
    if not changed:
        return text + data
    parsed = json.loads(text[8:])
    for key, value in changed.items():
        if value is None:
            del parsed["__metadata__"][key]
        else:
            parsed["__metadata__"][key] = value
    if header.HEADER_SUM in parsed["__metadata__"] and header.HEADER_SUM not in changed:
        crc = header.content(parsed["__metadata__"], [(name, code, shape) for name, code, shape, _ in entries])
        parsed["__metadata__"][header.HEADER_SUM] = f"{crc:08x}"
    return file_of(parsed, data)


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


def compact(data: bytes) -> bytes:
    """The same header without spaces, which is read by another way."""
    length = int.from_bytes(data[:8], "little")
    if length != len(data[8:8 + length]):
        return data
    return file_of(data[8:8 + length].replace(b'": ', b'":').replace(b", ", b","), data[8 + length:])


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
    script = (
        "import resource, sys, time, optimlite as ol, json\n"
        "try: ol.load(sys.argv[2])\nexcept ol.CheckpointError: pass\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = time.perf_counter()\n"
        "try: ol.load(sys.argv[1])\nexcept ol.CheckpointError as fault: print(fault)\n"
        "assert time.perf_counter() - start < 1\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10\n")
    (tmp_path / "small").write_bytes(file_of(b"[]"))
    for start, count in ((b'{"x":', 30_000_000), (b'{"x":{"shape":[', 30_000_000)):
        with open(tmp_path / "a", "wb") as file:
            file.write(file_of(start, length=count))
            file.truncate(8 + count)
        result = subprocess.run([sys.executable, "-c", script, tmp_path / "a", tmp_path / "small"], capture_output=True,
                                text=True)
        assert result.returncode == 0, result.stderr
        assert "the header must have" in result.stdout


# Files made to take time or memory, or to write to a terminal ---------------------------------------------------------

def tree_of(text: str) -> bytes:
    return ours('{"x":{"$array":"x"},"y":' + text + "}")


def collisions(count: int, step: int = (1 << 61) - 1) -> bytes:
    return tree_of('{"$dict":[' + ",".join(f"[{key * step},0]" for key in range(count)) + "]}")


COLLIDING = {"of one hash": lambda count: collisions(count),
             "below zero": lambda count: collisions(count, 1 - (1 << 61)),
             "in two forms": lambda count: tree_of(
                 '{"$dict":[' + ",".join(f"[{key * ((1 << 61) - 1)},0],[{key}.5,0]" for key in range(count)) + "]}")}


@pytest.mark.parametrize("form", COLLIDING)
def test_keys_that_collide_are_refused_in_no_time(form: str) -> None:
    with memory_file() as (fd, path):
        put(fd, COLLIDING[form](50_000))
        assert "made to collide" in refused(path)
        put(fd, collisions(40))                              # a few are nobody's attack
        assert len(ol.load(path)["y"]) == 40
        put(fd, collisions(50_000, 3))                       # and others are a dict like any other
        assert len(ol.load(path)["y"]) == 50_000


NESTS = {"lists": "[]", "dicts": "{}", "entries": '{"a":0}', "tuples": '{"$tuple":[]}', "pairs": '{"$dict":[[1,2]]}',
         "numbers": "0.1", "texts": '"ab"', "brackets in texts": '"[[["'}


@pytest.mark.slow
@pytest.mark.skipif(PATIENCE > 1, reason="sanitizers take memory of their own")
@pytest.mark.parametrize("form", NESTS)
def test_memory_is_bounded_by_a_multiple_of_the_file(tmp_path: Path, form: str) -> None:
    """Whether it is refused, or read: 9 MB of header."""
    data = tree_of("[" + ",".join([NESTS[form]] * (9_000_000 // (len(NESTS[form]) + 1))) + "]")
    assert len(data) < header.MAX_HEADER
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(ours('{"x":{"$array":"x"}}'))
    script = ("import resource, sys, optimlite as ol\n"
              "ol.load('b')\n"
              "def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10\n"
              "before = used()\n"
              "try: ol.load('a')\nexcept ol.CheckpointError as fault: print(fault)\n"
              "else: print('read')\n"
              "print((used() - before) / 9e6)\n")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(Path(ol.__file__).parents[1])})
    assert done.returncode == 0, done.stderr
    *_, outcome, multiple = done.stdout.splitlines()
    assert outcome == "read" if "texts" in form or form == "numbers" else "must have at most 1048576 lists" in outcome
    assert float(multiple) < 25


@pytest.mark.slow
def test_as_many_lists_as_are_read_can_be_saved(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", x=1)
    with pytest.raises(ValueError, match="at most 1048576 lists, tuples and dicts; store tables as arrays"):
        ol.save(tmp_path / "a", table=[[]] * (1 << 20))
    assert ol.load(tmp_path / "a") == {"x": 1}
    ol.save(tmp_path / "a", table=[[]] * 100_000, text="[" * (1 << 21))
    assert len(ol.load(tmp_path / "a")["table"]) == 100_000


def splits(keys: list[str]) -> dict[str, Any]:
    """A nesting of all ways to join keys by dots, whose 2**(n - 1) leaves have paths that print alike."""
    found: dict[str, Any] = {".".join(keys): 0}
    for at in range(1, len(keys)):
        found[".".join(keys[:at])] = splits(keys[at:])
    return found


PATHS: dict[str, Any] = {
    "below a long key": lambda: '{"' + "k" * 200_000 + '":[' + "0," * 200_000 + "0]}",
    "arrays below a long key": lambda: '{"' + "k" * 1_000_000 + '":[' + '{"$array":"x"},' * 2000 + "0]}",
    "deep": lambda: '{"k":' * 300 + "[" + "0," * 100_000 + "0]" + "}" * 300,
    "alike": lambda: json.dumps(splits(list("abcdefghijklmn")))}


@pytest.mark.slow
@pytest.mark.plain
@pytest.mark.parametrize("form", PATHS)
def test_the_paths_of_leaves_are_in_proportion_to_the_file(form: str) -> None:
    data = ours('{"p":{"x":{"$array":"x"},"y":' + PATHS[form]() + "}}")
    with memory_file() as (fd, path):
        put(fd, data)
        live = np.zeros(2, np.float32)
        tracemalloc.start()
        start = time.process_time()
        try:
            ol.restore(path, p={"x": live})
        except ol.CheckpointError as fault:
            assert "too long, all together" in str(fault) or "each array once" in str(fault)     # noqa: PT017
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert time.process_time() - start < 12
    assert peak < 200 * len(data) + (8 << 20)


NASTY = ["\x1b[2J\x1b]0;x\x07", "a\nb: all checksums agree", "\u202etxt.exe", "\x9b31m", "\r"]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_nothing_in_a_file_moves_the_terminal(
        name: str, command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from optimlite.__main__ import main

    eight = np.zeros(2, np.float32)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    said = json.dumps({name: 1, "n": name, "o": {"state": {}, "param_groups": [{"lr": name}]},
                       "s": {"type": name, "last_epoch": name}, "x": {"$array": name}})
    files = [file_of({name: entry, "__metadata__": {name: name}}, eight.tobytes()), ours(said, {name: eight}),
             file_of({name: {**entry, "dtype": name}}, eight.tobytes()), ours("{}", {name: eight}),
             file_of({name: {**entry, name: 1}}, eight.tobytes()), ours(f'{{"x":{{"$array":{json.dumps(name)}}}}}'),
             ours(f'{{"x":{{"${json.dumps(name)[1:-1]}":0}},"y":{{"$array":"x"}}}}'),
             file_of({name: {**entry, "data_offsets": [9, 1]}}, eight.tobytes()),
             ours('{"x":{"$array":"x"}}', optimlite=name), file_of(json.dumps(name).encode()),
             file_of(json.dumps({name: entry, "y": entry}).encode(), eight.tobytes())]
    for data in files:
        (tmp_path / "a").write_bytes(data)
        main([command, str(tmp_path / "a")])
        told = "".join(capsys.readouterr())
        assert told.replace("\n", "").isprintable(), told
        assert all(line.strip() for line in told.splitlines() if command == "verify")
        assert "\nb:" not in told


def test_whatever_the_tree_says_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from optimlite.__main__ import main

    for part in ('{"state":1,"param_groups":[]}', '{"state":{"0":1},"param_groups":[]}',
                 '{"state":{},"param_groups":1}',
                 '{"state":{"0":{"step":"x"}},"param_groups":[1]}', '{"state":{"0":{"step":"x"}},"param_groups":[]}',
                 '{"state":{"0":{"step":{"$array":"x"}}},"param_groups":[{}]}', '{"last_epoch":[]}',
                 '{"state":{"0":{"step":[]},"1":{"step":2.5},"2":{"step":7}},"param_groups":[{"lr":{}}]}',
                 '{"averages":[],"averages.0":{"$float":"nan"}}'):
        extra = "" if "$array" in part else ',"x":{"$array":"x"}'
        (tmp_path / "a").write_bytes(ours(f'{{"p":{part}{extra}}}'))
        assert main(["inspect", str(tmp_path / "a")]) == 0
        assert "p" in capsys.readouterr().out
        with pytest.raises((ValueError, TypeError)):         # and it is no average, nor an optimizer
            ol.restore(tmp_path / "a", strict=False, p=ol.Average([np.ones(2, np.float32)]))
