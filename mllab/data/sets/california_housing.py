"""California housing: the 1990 census, one row a block group."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data.dataset import Dataset
from mllab.data.scaling import standardise
from mllab.data.split import shuffled

FILE = "cal_housing.data"
FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")


def load(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read the 20,640 block groups, with the features that scikit-learn derives, standardised."""
    features, values = read(files[FILE])
    split = shuffled(len(values), split_seed)
    inputs, _, _ = standardise(features, split.train)
    targets, mean, scale = standardise(values, split.train)
    return Dataset(
        name="california_housing",
        task=tasks.REGRESSION.name,
        inputs=inputs,
        targets=targets,
        split=split,
        standardised=True,
        features=FEATURES,
        target="median house value",
        unit="$100,000",
        target_mean=float(mean),
        target_scale=float(scale),
    )


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the derived features [N, 8] and the median house value [N] in units of $100,000, float64.

    The columns of the file are totals of a block group; rooms, bedrooms and people become averages per household.
    """
    longitude, latitude, age, rooms, bedrooms, population, households, income, value = np.loadtxt(
        path, delimiter=",", unpack=True
    )
    features = np.column_stack(
        [
            income,
            age,
            rooms / households,
            bedrooms / households,
            population,
            population / households,
            latitude,
            longitude,
        ]
    )
    return features, value / 100_000
