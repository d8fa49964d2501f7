"""California housing: the 1990 census, one row a block group."""

from pathlib import Path

import numpy as np

from mllab.data.dataset import Dataset
from mllab.data.scaling import standardise
from mllab.data.split import shuffled

FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")


def california(path: Path, split_seed: int) -> Dataset:
    """Read the 20,640 block groups; features as scikit-learn derives them, all standardised from training rows."""
    features, values = read(path)
    split = shuffled(len(values), split_seed)
    inputs, _, _ = standardise(features, split.train)
    targets, mean, scale = standardise(values, split.train)
    return Dataset(
        name="california_housing",
        task="regression",
        inputs=inputs,
        targets=targets,
        split=split,
        features=FEATURES,
        target="median house value",
        unit="$100,000",
        target_mean=float(mean),
        target_scale=float(scale),
    )


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the 8 derived features [N, 8] and the median house value [N] in units of $100,000, float64.

    The file's own columns are totals of a block group; rooms, bedrooms and people are taken for each household.
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
