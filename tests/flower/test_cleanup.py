"""What a process has started ends with it, however it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octolab.flower.deploy import tagged

HEAD = """
import os, signal, sys, tempfile, time
from octolab.flower.cleanup import register, forget

class Thing:
    def __init__(self, name):
        self.name = name
        register(self)
    def close(self):
        print("closed", self.name, flush=True)
        if self.name == "broken":
            raise OSError("it fails")

first, second = Thing("first"), Thing("broken")
third = Thing("third")
forget(third)
print("ready", flush=True)
"""


def started(code, **how):
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True, **how)


def test_at_exit_what_is_open_is_closed_newest_first():
    text, _ = started(HEAD).communicate(timeout=120)
    assert text.split("\n")[:3] == ["ready", "closed broken", "closed first"]


def test_on_sigterm_too_and_the_process_dies_of_it():
    process = started(HEAD + "time.sleep(600)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert text == "closed broken\nclosed first\n"
    assert process.returncode == -signal.SIGTERM


def test_a_programs_own_handler_of_sigterm_is_called_afterwards():
    code = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: (print('mine'), sys.exit(7)))\n" + HEAD
    process = started(code + "time.sleep(600)")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert text.split("\n")[:3] == ["closed broken", "closed first", "mine"] and process.returncode == 7


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_tethered_program_ends_when_its_parent_is_killed_outright():
    code = """
import os, subprocess, time
from octolab.flower.cleanup import tethered
child = subprocess.Popen(tethered(["sleep", "600"], os.getpid()), start_new_session=True)
while b"sleep" not in open(f"/proc/{child.pid}/cmdline", "rb").read().split(b"\\0")[0]:
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(600)
"""
    process = started(code)
    child = int(process.stdout.readline())
    assert alive(child)
    process.kill()
    process.wait()
    wait_until(lambda: not alive(child))
    process.stdout.close()


DEPLOYED = """
import octolab as ol, time
link = ol.flower.deploy_local(nodes=2)
print(link.tag, link.home, flush=True)
time.sleep(600)
"""


@pytest.mark.deployment
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_deployment_ends_with_the_process_that_made_it(how):
    process = started(DEPLOYED)
    tag, home = process.stdout.readline().split()
    assert tagged(tag)
    process.send_signal(how)
    process.wait(timeout=120)
    wait_until(lambda: tagged(tag) == [])
    process.stdout.close()
    if how == signal.SIGTERM:
        assert not Path(home).exists()
    else:
        import shutil

        shutil.rmtree(home)  # nobody was left to delete it
