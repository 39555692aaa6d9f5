"""Threads are native, few, asleep when idle, absent after a fork, and change no bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimlite as ol
from optimlite.native import runtime
from support.helpers import output_of, parameters, run_python, values
from support.paths import ROOT

LARGE = 400_000      # elements: far beyond the size from which steps use threads


def gan(size: int = LARGE) -> list[ol.Optimizer]:
    """Two optimizers side by side, a generator's and a discriminator's."""
    rng = np.random.default_rng(3)
    sizes = ((size, 1000), (size // 2, 7))
    built = []
    for optimizer, arrays in zip((ol.Adam, ol.AdamW), sizes, strict=True):
        built.append(optimizer([rng.standard_normal(n).astype(np.float32) for n in arrays], lr=0.01))
        for p in parameters(built[-1]):
            p.grad = rng.standard_normal(p.shape).astype(np.float32)
    return built


def run(optimizer: ol.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.step()
        for p in parameters(optimizer):
            p.grad = p.grad * np.float32(0.75)


def test_two_threads_stepping_two_optimizers_give_the_bits_of_steps_in_turn(threads: None) -> None:
    ol.set_num_threads(3)
    in_turn = gan()
    for optimizer in in_turn:
        run(optimizer, 20)
    at_once = gan()
    workers = [threading.Thread(target=run, args=(optimizer, 20)) for optimizer in at_once]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [values(optimizer) for optimizer in at_once] == [values(optimizer) for optimizer in in_turn]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 64, 256])
def test_thread_counts_beyond_the_cpus_work_and_change_no_bit(threads: None, count: int) -> None:
    one, other = gan()[0], gan()[0]
    ol.set_num_threads(1)
    run(one, 3)
    ol.set_num_threads(count)
    assert ol.get_num_threads() == count
    run(other, 3)
    assert values(one) == values(other)


def test_settings_may_change_while_another_thread_steps(threads: None) -> None:
    """Which bits come out doesn't depend on it; `make sanitize` sees whether the settings themselves are safe."""
    one, other = gan()[0], gan()[0]
    run(one, 20)
    worker = threading.Thread(target=run, args=(other, 20))
    worker.start()
    while worker.is_alive():
        for count in (1, 3, 2, 5):
            ol.set_num_threads(count)
            ol.set_flush_denormal(ol.get_flush_denormal())
            assert runtime.pool_size() >= 0
    worker.join()
    assert values(other) == values(one)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_a_number_of_threads_is_a_positive_integer(threads: None, count: Any) -> None:
    before = ol.get_num_threads()
    with pytest.raises((TypeError, ValueError), match=f"`threads` must be an integer >= 1, got {count!r}"):
        ol.set_num_threads(count)
    assert ol.get_num_threads() == before


def test_a_numpy_integer_is_a_number_of_threads(threads: None) -> None:
    ol.set_num_threads(np.int64(2))                          # type: ignore[arg-type]
    assert ol.get_num_threads() == 2


PRINT = "import optimlite as ol; print(ol.get_num_threads())"


@pytest.mark.parametrize(("value", "count"), [("1", "1"), ("3", "3"), ("200", "200")])
def test_the_environment_sets_the_number(value: str, count: str) -> None:
    assert output_of(PRINT, OPTIMLITE_NUM_THREADS=value) == count


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "1e3"])
def test_a_bad_number_in_the_environment_is_refused(value: str) -> None:
    done = run_python(PRINT, OPTIMLITE_NUM_THREADS=value)
    assert done.returncode
    assert f"`OPTIMLITE_NUM_THREADS` must be an integer >= 1, got '{value}'" in done.stderr


def test_the_default_is_the_cpus_that_the_process_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + PRINT
    assert output_of("import os; os.environ.pop('OPTIMLITE_NUM_THREADS', None); " + code) == "1"
    assert 1 <= int(output_of("import os; os.environ.pop('OPTIMLITE_NUM_THREADS', None); " + PRINT)) <= os.cpu_count()


def test_an_empty_number_in_the_environment_is_none() -> None:
    assert int(output_of(PRINT, OPTIMLITE_NUM_THREADS="")) >= 1


@pytest.mark.plain
def test_threads_start_with_the_first_large_step_and_not_before() -> None:
    assert output_of(f"""
        import os, numpy as np
        count = lambda: len(os.listdir("/proc/self/task"))
        at_first = count()
        import optimlite as ol
        counts = [count() - at_first]
        for size in (0, 1, 1000, 30_000, {LARGE}, {LARGE}):
            optimizer = ol.Adam([np.ones(size, np.float32)])
            for _ in range(3):
                optimizer.step(grads=[np.ones(size, np.float32)])
            counts.append(count() - at_first)
        ol.set_num_threads(1)
        optimizer.step()
        print(counts)
    """, OPTIMLITE_NUM_THREADS="3") == "[0, 0, 0, 0, 0, 2, 2]"


def test_one_thread_starts_none() -> None:
    assert output_of(f"""
        import os, numpy as np
        import optimlite as ol
        at_first = len(os.listdir("/proc/self/task"))
        ol.SGD([np.ones({LARGE})]).step(grads=[np.ones({LARGE})])
        print(len(os.listdir("/proc/self/task")) - at_first)
    """, OPTIMLITE_NUM_THREADS="1") == "0"


@pytest.mark.plain
def test_idle_threads_use_no_cpu() -> None:
    assert float(output_of(f"""
        import time, numpy as np, optimlite as ol
        optimizer = ol.Adam([np.ones({LARGE}, np.float32)])
        optimizer.step(grads=[np.ones({LARGE}, np.float32)])
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        print(time.process_time() - before)
    """, OPTIMLITE_NUM_THREADS="8")) < 0.01


FORKS = """
    import os, sys, time, threading, numpy as np, optimlite as ol

    def step_in_a_child(optimizer, twin):
        # the child's step gives the bits of the parent's, within five seconds
        pid = os.fork()
        if not pid:
            optimizer.step()
            os._exit(0 if optimizer.param_groups[0]["params"][0].data.tobytes() == twin else 7)
        deadline = time.monotonic() + 5
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0, status
                return
            if time.monotonic() > deadline:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                sys.exit("the child hangs")
            time.sleep(0.0005)

    def build():
        return ol.SGD([np.ones(size, np.float32)], lr=0.5, momentum=0.5)

    size = 200_000
    ones = np.ones(size, np.float32)
    optimizer, ahead = build(), build()
    ahead.step(grads=[ones])
"""


def test_a_child_steps_after_a_fork_a_hundred_times() -> None:
    """GCC PR60035, LightGBM#4751: OpenMP hangs in a child that steps after its parent did."""
    assert output_of(FORKS + """
    for _ in range(100):
        optimizer.step(grads=[ones])
        ahead.step()
        step_in_a_child(optimizer, ahead.param_groups[0]["params"][0].data.tobytes())
    print("ok")
    """, OPTIMLITE_NUM_THREADS="3") == "ok"


def test_a_child_forked_in_the_middle_of_another_threads_steps_steps() -> None:
    assert output_of(FORKS + """
    busy, done = build(), threading.Event()
    busy.param_groups[0]["params"][0].grad = ones
    def work():
        while not done.is_set():
            busy.step()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        optimizer.step(grads=[ones])
        ahead.step()
        for _ in range(40):
            step_in_a_child(optimizer, ahead.param_groups[0]["params"][0].data.tobytes())
    finally:
        done.set()
        thread.join()
    print("ok")
    """, OPTIMLITE_NUM_THREADS="3") == "ok"


def test_a_fork_of_a_fork_steps_with_threads_of_its_own() -> None:
    assert output_of(FORKS + """
    optimizer.step(grads=[ones])
    ahead.step()
    pid = os.fork()
    if not pid:
        before = len(os.listdir("/proc/self/task"))      # an emulator has threads of its own
        optimizer.step()
        ahead.step()
        started = len(os.listdir("/proc/self/task")) - before
        step_in_a_child(optimizer, ahead.param_groups[0]["params"][0].data.tobytes())
        os._exit(0 if started == 2 else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("ok")
    """, OPTIMLITE_NUM_THREADS="3") == "ok"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_step(method: str) -> None:
    assert output_of(f"""
        import multiprocessing, numpy as np, optimlite as ol
        def step(optimizer):
            optimizer.step()
            return float(optimizer.param_groups[0]["params"][0][0])
        optimizer = ol.SGD([np.ones({LARGE}, np.float32)], lr=0.5)
        optimizer.step(grads=[np.ones({LARGE}, np.float32)])
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            work = ol.SGD.step if {method!r} == "spawn" else step    # a spawned worker can't import this script
            results = pool.map_async(work, [optimizer] * 4).get(timeout=30)
        print(results)
    """, OPTIMLITE_NUM_THREADS="2") == str([None] * 4 if method == "spawn" else [0.0] * 4)


@pytest.mark.skipif(not (shutil.which("cc") and (ROOT / "pyx").exists()), reason="needs a C compiler and the sources")
def test_helpers_that_come_late_are_left_alone_and_tried_again(tmp_path: Path) -> None:
    program, source = tmp_path / "pool", ROOT / "tests" / "native" / "pool.c"
    subprocess.run(["cc", "-std=c11", "-O2", "-pthread", "-I", ROOT / "pyx", source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.plain
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose the CPU of a thread")
def test_workers_on_the_callers_cpu_change_no_bit_and_are_not_waited_for() -> None:
    """One CPU for all threads, as in a container whose quota came later: steps take no longer than on one thread."""
    assert output_of(f"""
        import os, time, numpy as np, optimlite as ol
        from statistics import median
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        grads = [np.ones({LARGE}, np.float32)]
        optimizers = {{count: ol.Adam([np.ones({LARGE}, np.float32)]) for count in (1, 4)}}
        times = {{count: [] for count in optimizers}}
        for _ in range(200):
            for count, optimizer in optimizers.items():
                ol.set_num_threads(count)
                start = time.perf_counter()
                optimizer.step(grads=grads)
                times[count].append(time.perf_counter() - start)
        one, four = (o.param_groups[0]["params"][0].data.tobytes() for o in optimizers.values())
        print(one == four, median(times[4]) < 1.5 * median(times[1]), ol.native.runtime.pool_size())
    """, OPTIMLITE_NUM_THREADS="4") == "True True 3"


def test_a_child_steps_an_optimizer_that_another_thread_was_stepping() -> None:
    """It said "already stepping in another thread" for ever, and left the step out of its count."""
    assert output_of("""
    import os, threading
    import numpy as np
    import optimlite as ol

    forked, inside = threading.Event(), threading.Event()

    class Slow(ol.SGD):
        def coefficients(self, group, state, first):
            inside.set()
            forked.wait(20)
            return super().coefficients(group, state, first)

    w = np.zeros(3)
    optimizer = Slow([w], lr=1.0)
    thread = threading.Thread(target=lambda: optimizer.step(grads=[np.ones(3)]))
    thread.start()
    inside.wait(20)
    pid = os.fork()
    if not pid:
        forked.set()
        optimizer.step(grads=[np.ones(3)])
        optimizer.step(grads=[np.ones(3)])
        os._exit(0 if w[0] == -2 and optimizer.steps_taken == 2 else 8)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    forked.set()
    thread.join()
    print(ended, w[0])
    """, OPTIMLITE_NUM_THREADS="2") == "0 -1.0"
