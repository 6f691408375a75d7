"""Rows to MLflow: a folder by default, or a tracking server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from octolab.arguments import expects, path, text
from octolab.experiment.callbacks.callback import View
from octolab.experiment.callbacks.stream import Row
from octolab.experiment.callbacks.tracker import Tracker, description, numbers

MOST = 1000  # metrics that MLflow takes in one batch


class MLflow(Tracker):
    """Every row's columns as metrics of an MLflow run, in batches. uri: a tracking server, a database, or a folder
    (MLFLOW_TRACKING_URI, or the folder "mlruns" here, where none is given).
    """

    library, package = "mlflow", "mlflow-skinny"

    @expects(experiment=text(), uri=path("a path or address"))
    def __init__(self, experiment: str = "octolab", uri: str | os.PathLike[str] | None = None):
        super().__init__()
        self.experiment = experiment
        place = str(uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns")
        self.uri = place if ":" in place else Path(place).absolute().as_uri()
        if self.uri.startswith("file:"):
            os.environ.setdefault(
                "MLFLOW_ALLOW_FILE_STORE", "true"
            )  # MLflow 3 asks for it: its folders get no more features
        if self.uri.startswith("http"):  # a server that is not there is said in seconds, not after minutes of trying
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._client: Any = None
        self._run_id = ""

    def open(self, run: View) -> None:
        self._client = self._module.tracking.MlflowClient(self.uri)
        found = self._client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self._run_id = self._client.create_run(number, run_name=f"{run.name}-{run.settings.seed}").info.run_id
        for name, value in description(run).items():
            self._client.log_param(self._run_id, name, str(value)[:500])

    def write(self, rows: list[Row]) -> None:
        now, kind = int(1000 * time.time()), self._module.entities.Metric
        batch = [kind(name, value, now, int(row["round"])) for row in rows for name, value in numbers(row).items()]
        for a in range(0, len(batch), MOST):
            self._client.log_batch(self._run_id, metrics=batch[a : a + MOST])

    def close(self, run: View) -> None:
        self._client.set_terminated(self._run_id, "FAILED" if run.status == "failed" else "FINISHED")
