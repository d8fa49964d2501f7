"""The former name of `mllab.report.style`, until the last module that imports it is gone."""

from mllab.report.style import *  # noqa: F403
