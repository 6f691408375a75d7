"""What is done to a module: other norms, predictions, saving and loading."""

from octolab.models.group_norm import with_group_norm
from octolab.models.predicted import predictions
from octolab.models.saved import load_model, save_model

__all__ = ["load_model", "predictions", "save_model", "with_group_norm"]
