"""The same by real ranks: the bits are those of `simulate`, whichever MPI library there is."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

import optimlite as ol
from benchmarks.ranks import launcher, mpiexec
from optimlite import mpi
from support import mpi_program
from support.cases import OPTIMIZERS
from support.paths import ROOT
from support.ranks import alone, gradients, model, same_bits
from support.ranks_product import FORMATS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (mpiexec() and importlib.util.find_spec("mpi4py")),
                                                   reason="needs mpi4py and mpiexec: `make mpi-test`")]


def start(ranks: int, *program: str | Path, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen([*launcher(), "-n", str(ranks), sys.executable, *map(str, program)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **more})


def ended(job: subprocess.Popen[str], seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """What a job says in the end; one that hangs fails the test."""
    try:
        out, err = job.communicate(timeout=seconds)
    except BaseException:
        job.terminate()                          # which the launcher passes on
        raise
    return subprocess.CompletedProcess(job.args, job.returncode, out, err)


def run(ranks: int, what: str, folder: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return ended(start(ranks, mpi_program.__file__, what, folder), seconds)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("what", ["bits", "fault", "files", "inversion", "distributed", "replicated", "groups",
                                  "halved"])
def test_real_ranks_have_the_bits_of_simulated_ones(ranks: int, what: str, tmp_path: Path) -> None:
    if what == "fault" and ranks == 1:
        pytest.skip("rank 1 is to fail")
    found = result(run(ranks, what, tmp_path))
    assert found == mpi.simulate(ranks, getattr(mpi_program, what), str(tmp_path))[0]


def result(done: subprocess.CompletedProcess[str]) -> str:
    """What all ranks have found."""
    assert done.returncode == 0, done.stderr
    [found] = re.findall(r"^result: (.*)$", done.stdout, re.M)
    return str(found)


@pytest.mark.parametrize("ranks", [1, 3])
def test_every_optimizer_and_format_has_the_bits_of_one_process_in_every_run(ranks: int, tmp_path: Path) -> None:
    """Of parameters, of state, and of numbers of whole groups."""
    found = dict(zip([row.id for row in ROWS], result(run(ranks, "product", tmp_path, 600)).split(), strict=True))
    assert {row.case.optimizer for row in ROWS} == {*OPTIMIZERS}
    assert {row.format for row in ROWS} == {*FORMATS}
    assert found == {row.id: row.alone(ranks) for row in ROWS}
    assert found == {row.id: mpi.simulate(ranks, row.spread)[0] for row in ROWS}


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_leaves_have_the_bits_of_one_rank(ranks: int, tmp_path: Path) -> None:
    assert result(run(ranks, "tree", tmp_path)) == mpi.simulate(1, mpi_program.tree, "")[0]


@pytest.mark.parametrize("name", ["data_parallel", "distributed_inversion"])
def test_examples_say_what_simulated_ranks_say(name: str, tmp_path: Path) -> None:
    if name == "data_parallel":
        pytest.importorskip("sklearn")
    program = ROOT / "examples" / f"{name}.py"
    done = ended(start(4, program, TMPDIR=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    alone = subprocess.run([sys.executable, str(program), "--simulate", "4"], capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    assert done.stdout == alone.stdout


def test_a_file_of_four_ranks_goes_on_on_any_number_and_without_mpi(tmp_path: Path) -> None:
    params = model()
    opt = ol.Adam(params, lr=0.01, state_dtype="int8")
    expected = []
    for step in range(4):
        opt.step(grads=gradients(params, 0, step), max_grad_norm=1.0)
        expected.append(mpi_program.digest(params))
    assert result(run(4, "save", tmp_path)) == expected[1]
    for ranks in (1, 2, 3, 8):
        assert result(run(ranks, "go_on", tmp_path)) == expected[3], ranks
    ol.restore(tmp_path / "run", model=params, optimizer=opt)
    for step in range(2, 4):
        opt.step(grads=gradients(params, 0, step), max_grad_norm=1.0)
    assert mpi_program.digest(params) == expected[3]


def test_halves_of_the_ranks_train_beside_each_other(tmp_path: Path) -> None:
    assert result(run(4, "split", tmp_path)) == mpi_program.digest(mpi.simulate(2, mpi_program.train)[0][0])
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_the_tutorials_program_is_what_its_page_says(tmp_path: Path) -> None:
    """With the last lines that the page gives for real ranks, and as it stands, in threads: the same file."""
    page = (ROOT / "docs" / "mpi.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^## A first program\n.*?^```python\n(.*?)^```", page, re.S | re.M)
    [last] = re.findall(r"With real ranks, the last lines are `(.*?)` and `(.*?)`", page)
    before, called, _ = block.partition("found = mpi.simulate(4, train)\n")
    assert called
    files = []
    for name, program in (("real", "\n".join([before, *last])), ("threads", block)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "program.py").write_text(program, encoding="utf-8")
        done = ended(start(4 if name == "real" else 1, "program.py", cwd=folder))
        assert done.returncode == 0, done.stderr
        files.append((folder / "run.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_a_rank_that_leaves_is_not_waited_for(how: str, tmp_path: Path) -> None:
    done = run(4, "leaves", tmp_path / how)
    assert done.returncode != 0
    assert done.stdout.count("rank 1 is at the end of its program") == 3
    assert done.stderr.count("RankError: another rank has ended its program; end this one, too") == 3
    assert ("FileNotFoundError: batch-3" in done.stderr) == (how == "fails")


@pytest.mark.parametrize(("how", "said"), [("raises", "FileNotFoundError: batch-3"), ("exits", "batch-3")])
def test_mpi4py_ends_ranks_that_are_in_other_calls(how: str, said: str, tmp_path: Path) -> None:
    """What a rank does at its end is not in the way."""
    done = ended(start(3, "-m", "mpi4py", mpi_program.__file__, "waits", tmp_path / how))
    assert done.returncode != 0
    assert said in done.stderr


def test_a_program_may_end_mpi_itself(tmp_path: Path) -> None:
    done = run(2, "finalizes", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("result:") == 2


def test_ranks_that_have_not_met_end_without_each_other(tmp_path: Path) -> None:
    done = run(2, "unmet", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "result: ended" in done.stdout


def test_what_one_rank_does_alone_ends_the_job(tmp_path: Path) -> None:
    done = run(4, "alone", tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("RankError: ranks must do the same, but rank 0 is at `mpi.save`, ranks 1, 2, 3") == 4


def test_a_killed_rank_ends_the_job(tmp_path: Path) -> None:
    done = run(4, "killed", tmp_path)
    assert done.returncode != 0
    assert "result:" not in done.stdout


def test_killed_in_the_middle_of_a_save_it_is_the_old_file(tmp_path: Path) -> None:
    done = run(4, "killed_save", tmp_path)
    assert done.returncode != 0
    assert "result:" not in done.stdout
    assert os.path.samefile(tmp_path / "run", tmp_path / "kept")
    assert not [name for name in os.listdir(tmp_path) if name not in ("run", "kept") and not name.endswith(".tmp")]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)])
def test_killed_at_random_moments_the_job_ends_and_the_file_is_whole(kills: int, tmp_path: Path) -> None:
    """Each job goes on where the one before was killed; in the end the bits are those of a run that never was."""
    random, steps, doing = Random(0), 0, [0, 0, 0]
    for _ in range(kills):
        told = np.memmap(tmp_path / "told", np.int64, "w+", shape=(2, 4))
        job = start(4, mpi_program.__file__, "endless", tmp_path)
        while not told[1].all():                 # they have restored what there is
            assert job.poll() is None, job.communicate()
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.5))
        rank = random.randrange(4)
        doing[told[1, rank]] += 1
        os.kill(int(told[0, rank]), signal.SIGKILL)
        assert ended(job).returncode != 0
        if (tmp_path / "run").exists():
            before, steps = steps, ol.load(tmp_path / "run")["step"]         # with all checksums
            assert steps >= before
        assert len([name for name in os.listdir(tmp_path) if name.endswith(".tmp")]) <= 1
    print(f"{doing[1]} killed while training, {doing[2]} while saving; {steps} steps")
    assert kills < 100 or (steps > 20 and min(doing[1:]) > 0)
    params, opt = alone(lambda params: ol.Adam(params, lr=0.01, state_dtype="int8"), 4, steps, max_grad_norm=1.0)
    found = {name: np.zeros_like(array) for name, array in params.items()}
    restored = ol.Adam(found, lr=0.01, state_dtype="int8")
    if steps:
        ol.restore(tmp_path / "run", strict=False, model=found, optimizer=restored)
        assert same_bits(found, params)
        for ours, theirs in zip(restored.state.values(), opt.state.values(), strict=True):
            assert all(ours[key].tobytes() == theirs[key].tobytes() for key in theirs)
