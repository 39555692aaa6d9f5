"""The header of a safetensors file, there and back: strict in reading, since a file may come from anywhere.

A file is the header's length (8 bytes, little-endian), the header (JSON), and the arrays' bytes without gaps:

    {"__metadata__": {string: string, ...}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}

The grammar is that small, so it is scanned here token by token: a JSON library accepts what this format forbids
(duplicate keys, NaN, floats), and builds gigabytes out of megabytes of brackets before one can refuse them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..engine.formats import BFLOAT16, is_bfloat16
from .files import quoted

MAX_HEADER = 32_000_000              # bytes, of some 100,000 arrays; the format allows 100 MB, which nobody needs
MAX_DIMENSIONS = 64                  # of NumPy
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4,
         "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8, "C128": 16}
NUMPY = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
         "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8", "C128": "<c16"}
ML_DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
CODES = {(np.dtype(text).kind, np.dtype(text).itemsize): code for code, text in NUMPY.items()}
NAMES = {name: code for code, name in ML_DTYPES.items()}

# Two marks say that a file is ours; either makes all four keys mandatory, so that no damage to one turns checking off.
FORMAT, HEADER_SUM, SUMS, TREE = "optimlite", "optimlite_header_crc32", "optimlite_crc32", "optimlite_tree"
VERSION = "1"
EIGHT_DIGITS = re.compile("[0-9a-f]{8}")
PLAIN_SUM = re.compile(r'"([ !#-\[\]-~]*+)":"([0-9a-f]{8})"')


class Tensor(NamedTuple):
    """One array of a file: what the header says of it."""

    name: str
    code: str
    shape: tuple[int, ...]
    begin: int                       # of its bytes, from the start of the file
    end: int
    crc: int | None = None

    @property
    def dtype(self) -> np.dtype:
        if self.code in NUMPY:
            return np.dtype(NUMPY[self.code])
        try:
            import ml_dtypes
        except ImportError:
            if self.code == "BF16":
                return BFLOAT16
            raise ValueError(f"{quoted(self.name)} is {self.code}, which NumPy knows through ml_dtypes; "
                             f"install it with `pip install ml_dtypes`") from None
        dtype: np.dtype = np.dtype(getattr(ml_dtypes, ML_DTYPES[self.code]))
        return dtype


def code_of(dtype: np.dtype) -> str | None:
    """The format's word for a dtype of either byte order, or None."""
    if dtype.names or dtype.subdtype:
        return None
    return "BF16" if is_bfloat16(dtype) else NAMES.get(dtype.name) or CODES.get((dtype.kind, dtype.itemsize))


# Writing -------------------------------------------------------------------------------------------------------------

def content(metadata: Mapping[str, str], tensors: list[tuple[str, str, tuple[int, ...]]]) -> int:
    """The checksum of what a header says, whatever the order of its entries: other tools may sort them anew."""
    about = {key: value for key, value in metadata.items() if key != HEADER_SUM}
    return zlib.crc32(json.dumps([about, sorted(tensors)], sort_keys=True, separators=(",", ":")).encode())


def build(tensors: list[tuple[str, str, tuple[int, ...], int]], tree: str, sums: Mapping[str, int]) -> bytes:
    """Length and header for tensors (name, code, shape, bytes) in the file's order; `sums` don't change its size."""
    metadata = {FORMAT: VERSION, TREE: tree,
                SUMS: json.dumps({name: f"{crc:08x}" for name, crc in sums.items()}, separators=(",", ":"))}
    stored = [(name, *plain(code, shape)) for name, code, shape, _ in tensors]
    metadata[HEADER_SUM] = f"{content(metadata, stored):08x}"
    entries: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for (name, code, shape), (*_, nbytes) in zip(stored, tensors, strict=True):
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, begin + nbytes]}
        begin += nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)                # mapped arrays begin at a cache line
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header would have {len(text)} bytes, and the limit is {MAX_HEADER}; "
                         f"store tables as arrays, or fewer arrays")
    return len(text).to_bytes(8, "little") + text


def plain(code: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """An array as it is stored: complex128, which the format lacks, becomes pairs of float64."""
    return ("F64", (*shape, 2)) if code == "C128" else (code, shape)


# Reading -------------------------------------------------------------------------------------------------------------

class Scanner:
    """Reads the tokens of a header; whatever else stands there is a fault, named with its place."""

    SPACE = rb"[ \t\n\r]*+"
    SPACES = re.compile(SPACE)
    STRING = re.compile(SPACE + rb'("(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")')
    INTEGER = re.compile(SPACE + rb"(0|[1-9][0-9]{0,18})(?![0-9.eE])")
    END = re.compile(SPACE + rb"\Z")
    # A key and an entry as they are usually written, each in one match: by tokens, it takes several times as long.
    KEY = re.compile(rb'"([ !#-\[\]-~]*+)":')
    ENTRY = re.compile(rb'\{"dtype":"([A-Z0-9]++)","shape":\[((?:N(?:,N){0,63})?+)\],"data_offsets":\[(N),(N)\]\}'
                       .replace(b"N", rb"(?:0|[1-9][0-9]{0,17}+)"))

    def __init__(self, text: bytes) -> None:
        self.text, self.position = text, 0

    def take(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        if (found := pattern.match(self.text, self.position)) is None:
            self.refuse(what)
        self.position = found.end()
        return found[found.lastindex or 0]

    def refuse(self, what: str) -> NoReturn:
        raise ValueError(f"the header must have {what} at byte {self.position}, "
                         f"got {self.text[self.position:self.position + 16]!r}")

    def sign(self, sign: bytes) -> None:
        if not self.sees(sign):
            self.refuse(f"'{sign.decode()}'")

    def sees(self, sign: bytes) -> bool:
        if self.text.startswith(sign, self.position):
            self.position += 1
            return True
        spaces = self.SPACES.match(self.text, self.position)
        if seen := spaces is not None and self.text.startswith(sign, spaces.end()):      # there may be none: it matches
            self.position = spaces.end() + 1
        return seen

    def entry(self) -> tuple[str, list[int], list[int]] | None:
        """Dtype, shape and offsets, where they stand as they usually do."""
        if (found := self.ENTRY.match(self.text, self.position)) is None:
            return None
        self.position = found.end()
        code, shape, begin, end = found.groups()
        return code.decode(), [int(length) for length in shape.split(b",")] if shape else [], [int(begin), int(end)]

    def string(self, what: str = "a string") -> str:
        token = self.take(self.STRING, what)
        try:
            if b"\\" not in token:
                return token[1:-1].decode()
            text: str = json.loads(token)
            text.encode()
        except UnicodeError:
            raise ValueError(f"the header must be UTF-8, got {token[:40]!r}") from None
        return text

    def integers(self, what: str) -> list[int]:
        self.sign(b"[")
        found: list[int] = []
        while found or not self.sees(b"]"):
            found.append(int(self.take(self.INTEGER, f"an integer from 0 to 2**63 - 1 in {what}")))
            if found[-1] >= 1 << 63:
                raise ValueError(f"{what} must be below 2**63, got {found[-1]}")
            if len(found) > MAX_DIMENSIONS:
                raise ValueError(f"{what} must have at most {MAX_DIMENSIONS} numbers, as NumPy has dimensions")
            if not self.sees(b","):
                self.sign(b"]")
                break
        return found

    def members(self, what: str) -> Iterator[str]:
        """The keys of an object; whoever iterates reads the value."""
        self.sign(b"{")
        seen: set[str] = set()
        while seen or not self.sees(b"}"):
            if found := self.KEY.match(self.text, self.position):
                self.position = found.end()
                key = found[1].decode()
            else:
                key = self.string(f"a key of {what}")
                self.sign(b":")
            if key in seen:
                raise ValueError(f"{what} must have each key once, got {quoted(key)} twice")
            seen.add(key)
            yield key
            if not self.sees(b","):
                self.sign(b"}")
                break


def parse(text: bytes, start: int, size: int) -> tuple[dict[str, str], list[Tensor]]:
    """Metadata and tensors of a header whose arrays fill a file from `start` to `size`."""
    scan = Scanner(text)
    metadata: dict[str, str] = {}
    tensors = []
    for name in scan.members("the header"):
        if name == "__metadata__":
            metadata = {key: scan.string("a string as a value of '__metadata__'")
                        for key in scan.members("'__metadata__'")}
        else:
            tensors.append(entry(scan, name, start))
    scan.take(scan.END, "nothing more")
    end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != end:
            raise ValueError(f"the arrays' bytes must follow each other; those of {quoted(tensor.name)} "
                             f"{'overlap others' if tensor.begin < end else 'leave a gap'} at {tensor.begin - start}")
        end = tensor.end
    if end != size:
        raise ValueError(f"the header tells of {end - start} bytes of arrays, but {size - start} are there: "
                         f"the file is {'cut short' if end > size else 'too long'}, or its header is damaged")
    return metadata, tensors


def entry(scan: Scanner, name: str, start: int) -> Tensor:
    what = quoted(name)
    code, shape, offsets = scan.entry() or fields(scan, what)
    if code not in SIZES or code == "C128":
        raise ValueError(f"{what} must have a dtype that NumPy knows, got {quoted(code)}")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{what} must have a begin and an end as data_offsets, got {offsets}")
    nbytes = SIZES[code] * prod(shape)
    if (nbytes or SIZES[code] * prod(length for length in shape if length)) >= 1 << 63:
        raise ValueError(f"{what} must be smaller than 2**63 bytes, got the shape {shape}")
    if nbytes != offsets[1] - offsets[0]:
        raise ValueError(f"{what} must have {nbytes} bytes by its shape {shape} and dtype {code}, "
                         f"got {offsets[1] - offsets[0]}")
    return Tensor(name, code, tuple(shape), start + offsets[0], start + offsets[1])


def fields(scan: Scanner, what: str) -> tuple[str, list[int], list[int]]:
    """Dtype, shape and offsets of an entry, in any order and with any spaces."""
    code, shape, offsets = "", None, None
    for field in scan.members(what):
        if field == "dtype":
            code = scan.string("a dtype")
        elif field == "shape":
            shape = scan.integers(f"the shape of {what}")
        elif field == "data_offsets":
            offsets = scan.integers(f"the offsets of {what}")
        else:
            raise ValueError(f"{what} must have dtype, shape and data_offsets, got {quoted(field)}")
    if not code or shape is None or offsets is None:
        raise ValueError(f"{what} must have dtype, shape and data_offsets")
    return code, shape, offsets


def marked(metadata: Mapping[str, str]) -> bool:
    return any(key.startswith("optimlite") for key in metadata)


def checked(metadata: Mapping[str, str], tensors: list[Tensor]) -> list[Tensor]:
    """The tensors of a file of ours with their checksums, if the header is the one that was written."""
    for key in (FORMAT, HEADER_SUM, SUMS, TREE):
        if key not in metadata:
            raise ValueError(f"the header is damaged: it lacks '{key}'")
    if metadata[FORMAT] != VERSION:
        raise ValueError(f"the file has format version {metadata[FORMAT][:20]!r}, this optimlite reads {VERSION!r}: "
                         f"update optimlite, or the header is damaged")
    if metadata[HEADER_SUM] != f"{content(metadata, [tensor[:3] for tensor in tensors]):08x}":
        raise ValueError("the header is damaged: its checksum differs")
    crcs = dict(PLAIN_SUM.findall(metadata[SUMS]))
    if metadata[SUMS] != "{" + ",".join([f'"{name}":"{crc}"' for name, crc in crcs.items()]) + "}":
        sums = Scanner(metadata[SUMS].encode())
        crcs = {name: sums.string() for name in sums.members("the checksums")}
    if crcs.keys() != {tensor.name for tensor in tensors}:
        raise ValueError("the header must have a checksum for each array")
    for name, crc in crcs.items():
        if not EIGHT_DIGITS.fullmatch(crc):
            raise ValueError(f"the checksum of {quoted(name)} must have 8 hexadecimal digits, got {crc[:20]!r}")
    return [Tensor(*tensor[:5], int(crcs[tensor.name], 16)) for tensor in tensors]
