"""What is said, and put right, when a ServerApp dies: on a SuperLink that answers as told, without a process."""

from pathlib import Path

import pytest

import octolab as ol
from octolab.errors import OctolabError
from octolab.experiment.launch import prepare
from octolab.flower.command_line import Unreachable

pytestmark = pytest.mark.flower


class Flwr:
    """Flower's command line, played: `list` answers with a status; what was asked is kept."""

    def __init__(self, status):
        self.status, self.asked = status, []

    def ask(self, *words, seconds=60.0):
        self.asked.append(words[0])
        if self.status is None:
            raise Unreachable("nobody is there")
        return {"runs": [{"run-id": "7", "status": self.status}], "success": True}

    def close(self):
        pass


@pytest.mark.parametrize(
    ("status", "words", "asked"),
    [
        ("running", "still took run 7 for running: it was stopped there", ["list", "stop"]),
        ("finished:failed", "record of run 7 says finished:failed", ["list"]),
        (None, "record of run 7 may still call it running: `flwr stop 7` puts it right", ["list"]),
    ],
)
def test_the_record_of_a_run_whose_serverapp_died_is_put_right_or_said(status, words, asked):
    link = ol.flower.SuperLink("127.0.0.1:1", insecure=True)
    run = prepare("gd", ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=5, on=link)
    flwr = Flwr(status)
    run.world._flwr, run.world.run_id = flwr, 7
    run.world._lines.put(None)  # the log has ended without a word
    with pytest.raises(OctolabError, match=f"ServerApp ended after round -1 without a result.*{words}"):
        run.finish()
    assert run.status == "failed" and flwr.asked == asked


def test_a_run_that_has_rounds_behind_it_takes_its_run_file_along(monkeypatch):
    """It is saved before the first step, since within a step a run's state is nobody's."""
    from octolab.flower import superlink

    handed = []

    class Refusing(Flwr):
        def __init__(self, link):
            super().__init__(None)

        def ask(self, *words, seconds=60.0):
            if words[0] == "run":
                experiment = next(Path(words[1]).glob("*/experiment.py"))
                handed.append(experiment.read_text())
            return super().ask(*words)

    monkeypatch.setattr(superlink, "Flwr", Refusing)
    problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    half = ol.run("gd", problem, rounds=2, live=False)
    again = half.fork(rounds=5, on=ol.flower.SuperLink("127.0.0.1:1", insecure=True))
    with pytest.raises(Unreachable):
        again.finish()
    assert 'EXPERIMENT["start"] = "' in handed[0]
