"""The command line: pipes, terminals, exit codes, and files that are no checkpoints."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from optimlite.__main__ import main


def command(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "optimlite", *arguments], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(ol.__file__).parents[1]), **environment})


def test_the_version() -> None:
    done = command("--version", folder=Path())
    assert (done.returncode, done.stdout) == (0, f"optimlite {ol.__version__}\n")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    ol.save(tmp_path / "a", model={f"{i}": np.ones(1) for i in range(3000)})
    line = f"'{sys.executable}' -m optimlite inspect a | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(ol.__file__).parents[1])})
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("array ")
    assert done.stdout.splitlines()[1] == "141"


@pytest.mark.parametrize("name", ["e", "é"])
def test_a_terminal_that_knows_only_ascii(tmp_path: Path, name: str) -> None:
    ol.save(tmp_path / name, model={"W\u00e4": np.ones((2, 3))}, note="\u2713")
    done = command("inspect", name, folder=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "model.W\\xe4" in done.stdout
    assert "2x3" in done.stdout
    assert "note: \\u2713" in done.stdout
    (tmp_path / name).write_bytes(b"")
    done = command("verify", name, folder=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1
    assert "is cut short" in done.stderr
    assert "Traceback" not in done.stderr


def others(folder: Path) -> dict[str, str]:
    """Files of others, and what is said of them."""
    np.savez(folder / "a.npz", W=np.ones(3))
    np.save(folder / "a.npy", np.ones(3))
    (folder / "a.pkl").write_bytes(pickle.dumps({"W": 1}))
    (folder / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "old.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100))
    for first in ("archive/data.pkl", "archive/.format_version", "model/version", "notes.txt"):
        with zipfile.ZipFile(folder / f"{first.replace('/', '-')}.zip", "w") as file:
            file.writestr(first, "x" * 100)
    return {"a.npz": "NumPy archive", "a.npy": "NumPy array", "a.pkl": "this is a pickle, which may execute",
            "a.h5": "HDF5", "old.pt": "file of torch.save", "archive-data.pkl.zip": "file of torch.save",
            "archive-.format_version.zip": "file of torch.save", "model-version.zip": "file of torch.save",
            "notes.txt.zip": "zip archive"}


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_files_of_others_are_named(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in others(tmp_path).items():
        assert main([verb, str(tmp_path / name)]) == 1
        told = capsys.readouterr().err
        assert words in told
        assert "cut short" not in told
        with pytest.raises(ol.CheckpointError, match=words):
            ol.load(tmp_path / name)
        with pytest.raises(ol.CheckpointError, match=words):
            ol.restore(tmp_path / name, x=np.zeros(1))


def test_a_checkpoint_whose_length_begins_as_a_pickle_is_a_checkpoint(tmp_path: Path) -> None:
    for length in (0x0280, 0x0380, 0x0480, 0x0580):
        text = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
        (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + text + bytes(8))
        assert ol.load(tmp_path / "a")["x"].tolist() == [0, 0]
        (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + text + bytes(7))
        with pytest.raises(ol.CheckpointError, match="cut short"):
            ol.load(tmp_path / "a")


def test_what_the_cures_say_works(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", W=np.ones(3), b=np.zeros(2))
    ol.save(tmp_path / "a", **np.load(tmp_path / "a.npz"))
    assert ol.load(tmp_path / "a")["W"].tolist() == [1, 1, 1]


def test_convert_refuses_what_it_would_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it before PyTorch is looked for, and nothing is written."""
    ol.save(tmp_path / "a.safetensors", x=np.ones(2))
    ol.save(tmp_path / "ours.ckpt", x=np.ones(2))
    others(tmp_path)
    (tmp_path / "text.txt").write_text("nothing")
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:50])
    before = sorted(os.listdir(tmp_path))
    for source, target, words in (
            ("a.safetensors", "b.safetensors", "a safetensors file, which is converted to a file of torch.save"),
            ("ours.ckpt", "b.safetensors", "is a safetensors file"), ("a.safetensors", "b", "name that .pt, .pth"),
            ("old.pt", "b.pt", "isn't a safetensors file, so it is converted to one: name that .safetensors"),
            ("text.txt", "b.pt", "isn't a safetensors file"), ("a.npz", "b.safetensors", "NumPy archive"),
            ("notes.txt.zip", "b.safetensors", "zip archive"), ("broken.safetensors", "b.pt", "cut short"),
            ("absent.pt", "b.safetensors", "No such file"), (".", "b.safetensors", "must be a regular file")):
        assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 1
        assert words in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before


def test_convert_of_any_bytes_is_an_error_that_names_the_file(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    others(tmp_path)
    (tmp_path / "text.txt").write_text("nothing")
    (tmp_path / "empty").write_bytes(b"")
    for source in ("text.txt", "empty", "a.pkl", "old.pt", "archive-data.pkl.zip"):
        code = main(["convert", str(tmp_path / source), str(tmp_path / "b.safetensors")])
        told = capsys.readouterr()
        assert (code, told.out) == (1, "") if source != "a.pkl" else code in (0, 1)
        if code:
            assert f"{source}: PyTorch can't read it" in told.err
    for name in ("a.pt", "a.weird"):
        torch.save({"W": torch.ones(3)}, tmp_path / name)
        for verb in ("inspect", "verify"):
            assert main([verb, str(tmp_path / name)]) == 1
            assert "this is a file of torch.save" in capsys.readouterr().err
        assert main(["convert", str(tmp_path / name), str(tmp_path / "c")]) == 0
        assert ol.load(tmp_path / "c")["W"].tolist() == [1, 1, 1]
    torch.save({"W": torch.ones(3)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    assert main(["verify", str(tmp_path / "legacy")]) == 1
    assert "this is a file of torch.save" in capsys.readouterr().err
