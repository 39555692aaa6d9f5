"""Damaged files are refused, and change nothing: every flipped bit, every truncation, several bytes at random."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from support.checkpoints import bits, same, training
from support.crafted import memory_file, put, refused


def small(tmp_path: Path) -> bytes:
    """A checkpoint of every kind of part, of 2 kB and more."""
    ol.save(tmp_path / "a", **training(), x=[1, (float("nan"), {2: None})], c=np.array([1j]), e=np.zeros((0, 3)))
    return (tmp_path / "a").read_bytes()


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
