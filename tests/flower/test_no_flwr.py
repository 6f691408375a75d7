"""octolab without the extra: nothing imports flwr before somebody asks for it, and asking without it gets a sentence."""

import importlib.metadata
import subprocess
import sys

import pytest

import octolab as ol
from octolab.flower import requirement

HEAVY = "('flwr', 'ray', 'grpc', 'cryptography')"


def loaded_after(code: str) -> str:
    """Which of the third world's packages a fresh process has imported after running the code."""
    tail = f"\nimport sys\nprint(sorted(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_run_imports_no_flwr():
    code = """
import octolab as ol
problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
run = ol.run("ef21", problem, rounds=2, live=False)
run.history, run.spec, ol.flower.InProcess(), ol.flower.SuperLink("localhost:8000", insecure=True)
"""
    assert loaded_after(code) == "[]"


def test_describing_a_run_for_export_imports_no_flwr(tmp_path):
    code = f"""
import octolab as ol
run = ol.run("gd", ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, live=False)
run.export_flower_app({str(tmp_path / "my_app")!r})
"""
    assert loaded_after(code) == "[]"


def test_without_flwr_a_run_on_flower_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(requirement.importlib.metadata, "version", missing)
    problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    with pytest.raises(ImportError, match=r"needs flwr 1\.41, and there is none here.*octolab\[flower\]"):
        ol.run("gd", problem, rounds=1, on="flower", live=False)


@pytest.mark.parametrize("version", ["1.40.3", "1.42.0", "2.0"])
def test_another_flwr_is_refused_in_words(monkeypatch, version):
    monkeypatch.setattr(requirement.importlib.metadata, "version", lambda name: version)
    with pytest.raises(ImportError, match=rf"written for flwr 1\.41 and {version} is installed"):
        ol.run("gd", ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, on="flower", live=False)


def test_telemetry_and_update_check_are_off_unless_somebody_switched_them_on(monkeypatch):
    for name in ("FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(requirement.importlib.metadata, "version", lambda name: "1.41.0")
    requirement.check_flwr()
    assert requirement.os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert requirement.os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"


@pytest.mark.parametrize("on", ["flowr", 3, "ray"])
def test_an_unknown_place_gets_a_sentence(on):
    with pytest.raises(ValueError, match=r"choose 'flower', 'flower-simulation'"):
        ol.run("gd", ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, on=on, live=False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"wire": "float16"}, "wire='float16': choose 'float32'"),
        ({"timeout": 0}, "timeout=0: give a number > 0"),
        ({"least": 0}, "least=0: give a whole number >= 1"),
    ],
)
def test_a_place_is_checked_when_it_is_made(wrong, words):
    with pytest.raises(ValueError, match=words):
        ol.flower.InProcess(**wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"address": "http://here:8000"}, "write 'host:port'"),
        ({"address": "here"}, "write 'host:port'"),
        ({"root_certificates": "/no/such.crt"}, "there is no such file"),
    ],
)
def test_a_superlinks_address_is_checked_when_it_is_given(wrong, words):
    with pytest.raises(ValueError, match=words):
        ol.flower.SuperLink(**wrong)


def test_a_spec_does_not_say_where_the_run_ran():
    problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    here = ol.run("gd", problem, rounds=1, live=False)
    assert "on" not in here.spec["settings"]
