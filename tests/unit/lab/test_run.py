from __future__ import annotations

import os
import subprocess
import sys

import pytest
from kvmlab.errors import LabError
from kvmlab.run import Process, run, start_ticks, wait_until


def test_a_failed_command_is_quoted_with_what_it_said():
    with pytest.raises(LabError, match=r"ended with 3:\n  because"):
        run([sys.executable, "-c", "import sys; print('because'); sys.exit(3)"])


def test_a_missing_command_names_the_set_up():
    with pytest.raises(LabError, match="tests/lab/setup"):
        run(["no-such-command-anywhere"])


def test_waiting_ends_at_the_deadline_and_says_for_what():
    with pytest.raises(LabError, match="the moon: not within 0 s"):
        wait_until(lambda: False, 0.2, "the moon")


def test_a_process_is_not_taken_for_another_of_the_same_number():
    me = Process.of(os.getpid())
    assert me.alive()
    assert not Process(me.pid, me.start_ticks + 1).alive()


def test_an_ended_process_is_gone_even_before_its_parent_has_noticed():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    child.stdin.close()
    wait_until(lambda: not process.alive(), 10, "the end of the child")
    assert start_ticks(child.pid) is None
    child.wait()
