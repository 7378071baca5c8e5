# SPDX-License-Identifier: Apache-2.0
"""Processes: exits, forks, spawned children, sub-interpreters, signals. Each case is a program of its own."""

import subprocess
import sys
import textwrap

import pytest
from conftest import LIMIT

NO_GIL = "ignore:The global interpreter lock:RuntimeWarning"  # a build without one says so at the import


def run(program, *, status=0, **options):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-W", NO_GIL, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=4 * LIMIT, check=False, **options,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_a_program_may_end_without_closing():
    out, errors = run(
        """
        import gpuq
        queue = gpuq.Queue("echo", device="cpu")
        futures = [queue.submit(b"%d" % i) for i in range(100)]
        print(futures[-1].result(60).decode())
        """
    )
    assert out == "99\n" and errors == ""


def test_what_was_accepted_is_done_at_the_end_of_the_program():
    out, errors = run(
        """
        import gpuq
        queue = gpuq.Queue("sha256", device="cpu", slot_bytes=1 << 16)
        for i in range(200):
            queue.submit(bytes(1 << 16)).add_done_callback(lambda f: print("x", end=""))
        """
    )
    assert out == "x" * 200 and errors == ""


def test_an_exit_in_the_middle_of_a_message_does_not_wait_for_ever():
    run(
        """
        import ctypes, gpuq, time
        libc = ctypes.CDLL(None)
        forever = ctypes.cast(libc.pause, ctypes.c_void_p).value  # a processor that never comes back
        queue = gpuq.Queue(gpuq.Processor.from_cfunc(forever), device="cpu")
        future = queue.submit(b"x")
        gpuq._queue._at_exit_seconds = 0.1
        """
    )


def test_an_exception_in_a_with_block_closes_and_goes_through():
    out, errors = run(
        """
        import gpuq
        with gpuq.Queue("echo", device="cpu") as queue:
            queue.submit(b"x")
            raise SystemExit(3)
        """,
        status=3,
    )
    assert errors == ""


def test_a_forked_child_is_told_so_and_its_parent_goes_on():
    out, errors = run(
        """
        import concurrent.futures, gpuq, os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons', of forks beside threads
        queue = gpuq.Queue("echo", device="cpu", capacity=8)
        queue.submit(b"x").result(60)
        queue.pause(60)
        future = queue.submit(b"later")
        waiting = [threading.Thread(target=wait, daemon=True) for wait in (
            lambda: concurrent.futures.wait([future]), future.result)]
        for thread in waiting:
            thread.start()
        child = os.fork()
        if child == 0:
            for call in (lambda: future.result(60), lambda: queue.submit(b"y"), queue.stats, queue.fileno):
                try:
                    call()
                    os._exit(1)
                except gpuq.UnsupportedError:
                    pass
            queue.close()
            with gpuq.Queue("echo", device="cpu") as own:
                os._exit(0 if own.submit(b"z").result(60) == b"z" else 1)
        assert os.waitpid(child, 0)[1] == 0
        queue.resume()
        print(future.result(60).decode(), queue.submit(b"on").result(60).decode())
        queue.close()
        """
    )
    assert out == "later on\n" and errors == ""


def test_a_fork_while_callbacks_run_leaves_no_future_without_an_end():
    """What the completion thread has taken is in none of its tables, and that thread is not in the child."""
    out, errors = run(
        """
        import gpuq, os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        queue = gpuq.Queue("echo", device="cpu", capacity=64)
        inside, go = threading.Event(), threading.Event()
        queue.submit(b"x").result(60)
        queue.pause(60)
        futures = [queue.submit(b"%d" % i) for i in range(20)]
        many = queue.submit_many([b"%d" % i for i in range(20, 40)])
        futures[0].add_done_callback(lambda f: (inside.set(), go.wait(60)))
        queue.resume()
        assert inside.wait(60)
        queue.drain(60)
        child = os.fork()
        if child == 0:
            ended = 0
            for future in (*futures[1:], *many):
                try:
                    assert future.result(60) in (b"%d" % i for i in range(40))
                    ended += 1
                except gpuq.UnsupportedError:
                    ended += 1
            os._exit(0 if ended == 39 and many.done() else 1)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        print([f.result(60) for f in (*futures, *many)] == [b"%d" % i for i in range(40)])
        queue.close()
        """
    )
    assert out == "True\n" and errors == ""


def test_a_fork_in_a_callback_is_as_any_other():
    out, errors = run(
        """
        import gpuq, os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        queue = gpuq.Queue("echo", device="cpu", capacity=64)
        queue.submit(b"x").result(60)
        queue.pause(60)
        many = queue.submit_many([b"%d" % i for i in range(40)])
        status = []
        def fork(future):
            child = os.fork()
            if child == 0:
                try:
                    many.results(60)
                except gpuq.UnsupportedError:
                    os._exit(0 if all(f.done() for f in many) else 1)
                os._exit(0 if many.done() else 2)
            status.append(os.waitpid(child, 0)[1])
        many[0].add_done_callback(fork)
        queue.resume()
        print(len(many.results(60)))
        queue.close()
        assert status == [0], status
        """
    )
    assert out == "40\n" and errors == ""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_make_their_own(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, warnings
            import gpuq
            warnings.simplefilter("ignore", DeprecationWarning)
            def work(i):
                with gpuq.Queue("crc32c", device="cpu", capacity=8) as queue:
                    return queue.submit(b"%d" % i).result(60)
            if __name__ == "__main__":
                queue = gpuq.Queue("crc32c", device="cpu")
                queue.submit(b"x").result(60)
                with multiprocessing.get_context("{method}").Pool(2) as pool:
                    assert pool.map(work, range(4)) == [queue.submit(b"%d" % i).result(60) for i in range(4)]
                queue.close()
                print("done")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=4 * LIMIT, check=False
    )
    assert done.stdout == "done\n" and done.returncode == 0, done.stderr


def test_a_sub_interpreter_is_refused_clearly():
    out, _ = run(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import gpuq
        one = interpreters.create()
        code = "try:\\n import gpuq\\nexcept ImportError as error:\\n print(error)"
        interpreters.run_string(one, code)
        interpreters.destroy(one)
        with gpuq.Queue("echo", device="cpu") as queue:
            print(queue.submit(b"fine").result(60).decode())
        """
    )
    assert ("main interpreter only" in out or "subinterpreter" in out) and out.endswith("fine\n")


@pytest.mark.parametrize(
    "wait", ["queue.submit(b'x')", "queue.submit_many([b'x'] * 9)", "future.result()", "queue.drain()"]
)
def test_ctrl_c_ends_a_wait(wait):
    out, _ = run(
        f"""
        import gpuq, os, signal, threading
        queue = gpuq.Queue("echo", device="cpu", capacity=2)
        queue.pause(60)
        future = queue.submit(b"x")
        queue.submit(b"y")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted")
        queue.resume()
        print(future.result(60).decode())
        queue.close()
        """
    )
    assert out == "interrupted\nx\n"
