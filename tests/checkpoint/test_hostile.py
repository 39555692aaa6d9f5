"""Files made to take time or memory, or to write to a terminal."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.checkpoint import header
from support.crafted import file_of, memory_file, ours, put, refused
from support.helpers import PATIENCE, output_of


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
    *_, outcome, multiple = output_of("""
        import resource, optimlite as ol
        ol.load("b")
        def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        before = used()
        try: ol.load("a")
        except ol.CheckpointError as fault: print(fault)
        else: print("read")
        print((used() - before) / 9e6)
    """, folder=tmp_path, timeout=120).splitlines()
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
