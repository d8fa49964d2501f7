r"""Compare a net's features with raw pixels and with an untrained net's, by a linear probe and by nearest neighbours.

  python -m experiments.features
  python -m experiments.features --dataset=fashion_mnist --params=runs/image_classifier/TIME/params.safetensors

Features are the inputs of the net's last layer. Each representation of the images is tried with 1%, 10% and all of the
training rows, drawn by class. The linear probe is softmax regression at its optimum. Its penalty and the number of
neighbours are chosen on validation rows; test rows are scored once, with the chosen values.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import frame, probes
from experiments.predict import pretrained
from experiments.probes import LINEAR, NEIGHBORS, PIXELS, PROBES, SHORT, STYLES, TRAINED, UNTRAINED
from mllab import weights
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError
from mllab.metrics import Interval, interval
from mllab.models import architecture, convnet
from mllab.models.base import predict
from mllab.report import table
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table
