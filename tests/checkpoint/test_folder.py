"""A folder of rotating checkpoints, the command line, and PyTorch's files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import optimlite as ol
from optimlite.__main__ import main
from support.checkpoints import bits, same, training


def names(folder: Path) -> list[int]:
    return [int(name[11:17]) for name in sorted(os.listdir(folder))]


@pytest.mark.parametrize("background", [False, True])
def test_the_newest_and_the_best_are_kept(tmp_path: Path, background: bool) -> None:
    checkpoints = ol.Checkpoints(tmp_path / "run", keep=2, best="loss")
    for loss in (3.0, 1.0, float("nan"), 2.0, 1.5, np.float32(1.5)):
        checkpoints.save(model=np.ones(2), loss=loss, background=background).wait()
    assert names(tmp_path / "run") == [2, 5, 6]
    again = ol.Checkpoints(tmp_path / "run", keep=2, best="loss")
    assert again.best == again.paths[0]
    again.save(model=np.ones(2), loss=9)
    assert names(tmp_path / "run") == [2, 6, 7]
    again.save(model=np.ones(2), loss=1)                       # as good as the best, and newer
    assert names(tmp_path / "run") == [7, 8]
    again.save(model=np.ones(2), loss=8)
    again.save(model=np.ones(2), loss=7)
    assert names(tmp_path / "run") == [8, 9, 10]
    assert again.restore(model=np.zeros(2)) == {"loss": 7.0}
    assert again.restore(model=np.zeros(2), best=True) == {"loss": 1.0}


def test_the_highest_can_be_the_best(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, keep=1, best="accuracy", mode="max")
    for accuracy in (0.5, 0.9, 0.7, 0.8):
        checkpoints.save(accuracy=accuracy)
    assert names(tmp_path) == [2, 4]


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, best="loss")
    assert (checkpoints.paths, checkpoints.latest, checkpoints.best) == ([], None, None)
    assert checkpoints.restore(model=np.zeros(2)) is None


def test_a_save_in_the_background_is_the_newest(tmp_path: Path) -> None:
    """The folder was listed before the writing thread was done, so an older checkpoint came back."""
    checkpoints = ol.Checkpoints(tmp_path)
    checkpoints.save(epoch=0)
    checkpoints.save(epoch=1, model=np.ones(2), background=True, progress=lambda *_: time.sleep(0.05))
    assert checkpoints.restore(model=np.zeros(2)) == {"epoch": 1}


def test_a_broken_newest_one_is_skipped_with_a_warning(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, keep=3, best="loss")
    for epoch in range(3):
        checkpoints.save(model=np.full(3, epoch), epoch=epoch, loss=-epoch)
    newest = Path(checkpoints.paths[-1])
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    live = np.zeros(3, int)
    with pytest.warns(UserWarning, match=r"skipped a damaged checkpoint: .*000003.*'model' is damaged"):
        values = checkpoints.restore(model=live)
    assert values is not None
    assert values["epoch"] == 1
    assert (live == 1).all()
    with pytest.warns(UserWarning, match="skipped a damaged checkpoint"):
        assert checkpoints.latest == checkpoints.paths[-2]
    newest.write_bytes(b"")
    again = ol.Checkpoints(tmp_path, keep=1, best="loss")
    assert again.best == again.paths[1]
    again.save(loss=5.0, model=np.ones(3))
    assert names(tmp_path) == [2, 4]                           # what is broken is never best
    with pytest.raises(ValueError, match=r"missing: model\.0"):   # what doesn't fit is no damage
        again.restore(model=[np.zeros(3)])


def test_bad_arguments(tmp_path: Path) -> None:
    for arguments, message in (({"keep": 0}, "`keep` must be"), ({"keep": True}, "`keep` must be"),
                               ({"mode": "low"}, "`mode` must be")):
        with pytest.raises(ValueError, match=message):
            ol.Checkpoints(tmp_path, **arguments)
    checkpoints = ol.Checkpoints(tmp_path, best="loss")
    for parts in ({}, {"loss": "low"}, {"loss": None}):
        with pytest.raises(ValueError, match="`loss` must be given as a number"):
            checkpoints.save(**parts)
    assert os.listdir(tmp_path) == []


# The command line ----------------------------------------------------------------------------------------------------

def test_inspect_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    ol.save(path, **training(), epoch=4)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for piece in ("model.W", "F32", "6×5", "120 B", "ok", "optimizer: step 3", "optimizer: lr 0.0729", "epoch: 4",
                  "scheduler: ExponentialLR at count 3", "8 arrays", "format version 1"):
        assert piece in text
    assert main(["verify", str(path)]) == 0
    assert "all checksums agree" in capsys.readouterr().out
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(path)]) == 1
    assert "DAMAGED" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 1
    assert "is damaged" in capsys.readouterr().err
    path.write_bytes(data[:40])
    assert main(["inspect", str(path)]) == 1
    assert "cut short" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "absent")]) == 1


def test_files_of_the_library_are_inspected_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import safetensors.numpy

    safetensors.numpy.save_file({"x": np.ones(3)}, tmp_path / "a", {"note": "hello"})
    assert main(["inspect", str(tmp_path / "a")]) == 0
    text = capsys.readouterr().out
    assert "not written by optimlite" in text
    assert "note: hello" in text
    assert "none" in text
    assert main(["verify", str(tmp_path / "a")]) == 0
    assert "no checksums" in capsys.readouterr().out


def test_convert_from_and_to_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
             "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}
    torch.save(parts, tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors")]) == 0
    W, b = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    ours = ol.AdamW([W, b])
    rest = ol.restore(tmp_path / "a.safetensors", strict=False, model={"weight": W, "bias": b}, optimizer=ours)
    assert rest == {"epoch": 3}
    assert rest.unexpected == ["part 'half'"]
    assert same(W, model.weight.detach().numpy())
    assert same(ours.state[W]["exp_avg"], optimizer.state[model.weight]["exp_avg"].numpy())
    assert ours.state[W]["step"] == 1
    assert ours.param_groups[0]["lr"] == 0.1
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt")]) == 0
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert torch.equal(back["half"], parts["half"])
    assert torch.equal(back["model"]["weight"], parts["model"]["weight"])
    torch.optim.AdamW(torch.nn.Linear(3, 2).parameters()).load_state_dict(back["optimizer"])
    saved = training()
    ol.save(tmp_path / "c.safetensors", **saved)
    assert main(["convert", str(tmp_path / "c.safetensors"), str(tmp_path / "c.pt")]) == 0
    assert main(["convert", str(tmp_path / "c.pt"), str(tmp_path / "d.safetensors")]) == 0
    live = training(seed=2)
    ol.restore(tmp_path / "d.safetensors", **live)
    assert bits(live) == bits(saved)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_converting_executes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"x": Evil(str(tmp_path / "made"))}, tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors")]) == 1
    assert "Weights only load failed" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.slow
@pytest.mark.plain
@pytest.mark.parametrize("best", [None, "loss"])
def test_rotation_takes_time_in_proportion_to_the_files(tmp_path: Path, best: str | None) -> None:
    """One save that removes 10,000 old checkpoints takes no more than 6 times as long as one that removes 2,000."""
    ol.save(tmp_path / "one", x=1, loss=2.0)

    def seconds(count: int) -> float:
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(1, count + 1):
            os.link(tmp_path / "one", folder / f"checkpoint-{number:06d}.safetensors")
        checkpoints = ol.Checkpoints(folder, keep=3, best=best)
        start = time.process_time()
        checkpoints.save(x=1, loss=3.0, fsync=False)
        taken = time.process_time() - start
        assert names(folder) == [*([count] if best is None else []), *range(count - 1, count + 2)][-3:]
        shutil.rmtree(folder)
        return taken

    seconds(100)
    small = max(seconds(2000) for _ in range(3))
    assert min(seconds(10_000) for _ in range(2)) < 6 * small


def test_what_only_has_a_checkpoints_name_is_left_alone(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, keep=2, best="loss")
    checkpoints.save(x=1, loss=1.0)
    (tmp_path / "checkpoint-000002.safetensors").mkdir()
    os.symlink("nowhere", tmp_path / "checkpoint-000003.safetensors")
    os.symlink("checkpoint-000004.safetensors", tmp_path / "checkpoint-000004.safetensors")
    os.mkfifo(tmp_path / "checkpoint-000005.safetensors")
    for loss in (2.0, 3.0, 4.0):
        checkpoints.save(x=1, loss=loss)
        assert checkpoints.latest == checkpoints.paths[-1]
        assert checkpoints.restore() == {"x": 1, "loss": loss}
    assert names(tmp_path) == [1, 2, 3, 4, 5, 7, 8]
    assert [int(path[-18:-12]) for path in checkpoints.paths] == [1, 7, 8]
    assert checkpoints.best == checkpoints.paths[0]
    os.symlink(checkpoints.paths[0], tmp_path / "checkpoint-000009.safetensors")        # a link to a file is one
    assert ol.Checkpoints(tmp_path).restore() == {"x": 1, "loss": 1.0}


def test_checkpoints_that_vanish_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = ol.Checkpoints(tmp_path)
    for epoch in range(3):
        checkpoints.save(epoch=epoch)
    listed = checkpoints.paths
    os.unlink(listed[-1])
    monkeypatch.setattr(ol.Checkpoints, "paths", property(lambda self: listed))
    assert checkpoints.restore() == {"epoch": 1}
    assert checkpoints.latest == listed[1]


def test_a_number_is_not_taken_twice_and_a_value_is_of_the_file_that_is_there(tmp_path: Path) -> None:
    checkpoints = ol.Checkpoints(tmp_path, keep=3, best="loss")
    checkpoints.save(loss=1.0)
    assert checkpoints.best == checkpoints.paths[0]
    for path in checkpoints.paths:
        os.unlink(path)
    checkpoints.save(loss=5.0)
    assert names(tmp_path) == [2]
    other = ol.Checkpoints(tmp_path, keep=3, best="loss")
    other.save(loss=4.0)
    checkpoints.save(loss=6.0)
    assert (names(tmp_path), checkpoints.best) == ([2, 3, 4], checkpoints.paths[1])
    with pytest.raises(TypeError, match="`best` must be the name of a part, got 3"):
        ol.Checkpoints(tmp_path, best=3)                      # type: ignore[arg-type]
