"""Which data sets an experiment takes: its `--dataset` flag, the help of it, and the check of what was loaded."""

import dataclasses
from typing import Any

from experiments.frame import kinds
from mllab.data import catalog
from mllab.data.dataset import Dataset
from mllab.errors import UserError

IN_THE_PLANE = "points in the plane"
OWN_IMAGES = "folder of images (one subfolder a class), .npz file of images and labels, or folder of IDX files"


@dataclasses.dataclass(frozen=True)
class Needs:
    """What an experiment needs of a data set."""

    classes: int = 0  # the least number of classes; 0 where it may have values to predict
    images: bool = False  # with classes
    target: bool = True  # whether a table of the user's own must have one

    def names(self) -> list[str]:
        """Return the sets of the catalog that have it."""
        return [name for name, entry in catalog.CATALOG.items() if self._fits(entry)]

    def help(self) -> str:
        """Return the data sets, by name and by path, for the help of a flag."""
        plane = [name for name in self.names() if catalog.CATALOG[name].holds == "points"]
        listed = ", ".join(name for name in self.names() if name not in plane)
        if self.images:
            return f"Images with classes: {listed}, or the path of your own {OWN_IMAGES}."
        of_table = "with --target, a column of classes" if self.classes else "with --target"
        if not self.target:
            of_table = "--target is optional: classes to compare with"
        return (
            f"Data set: {listed}, {IN_THE_PLANE} ({', '.join(plane)}), or the path of your own .csv or .parquet table "
            f"({of_table}), {OWN_IMAGES}."
        )

    def check_name(self, name: str) -> None:
        """Raise UserError for a set of the catalog, or a file, that lacks it by its kind; before it is loaded."""
        entry = catalog.CATALOG.get(name)
        if self.images and (entry.holds != "images" if entry else name.lower().endswith(catalog.TABLE_ENDINGS)):
            raise self._no_images(name)
        if entry and not self._fits(entry):
            raise self._no_classes(f"the target of {name}")

    def check(self, name: str, data: Dataset) -> None:
        """Raise UserError for a data set that lacks it."""
        if self.images and (not data.classes or data.inputs.ndim != 4):
            raise self._no_images(name)
        if self.classes and not data.classes:
            raise self._no_classes(f"{data.target} of {name}")
        if self.classes > 1 and len(data.classes) < self.classes:
            raise UserError(f"{name} has {len(data.classes)} class, {data.classes[0]!r}: give {self.classes} or more")

    def _fits(self, entry: catalog.Entry) -> bool:
        has_classes = entry.task == "classification"
        return (has_classes or not (self.classes or self.images)) and (entry.holds == "images" or not self.images)

    def _no_images(self, name: str) -> UserError:
        return UserError(f"{name} has no images with classes: try {', '.join(self.names())} or a folder of images")

    def _no_classes(self, target: str) -> UserError:
        return UserError(
            f"{target} is a quantity, and this experiment needs classes: try digits or moons, or a table with "
            "--task=classification"
        )


@dataclasses.dataclass(frozen=True)
class DatasetSetting(kinds.Setting):
    """The setting of a data set."""

    needs: Needs = Needs()


def dataset(default: str | None, *, classes: int = 0, images: bool = False, target: bool = True, note: str = "") -> Any:
    """Return the field of a data set, by name or path.

    Args:
        default: its name.
        classes: the least number of classes that it must have; 0 where it may have values to predict.
        images: whether it must be images with classes.
        target: whether a table of the user's own must have one; without, all of its columns are inputs.
        note: a sentence at the end of the help, such as what is the default where that is None.
    """
    needs = Needs(classes, images, target)
    plain = kinds.path(default, names=catalog.CATALOG, help=f"{needs.help()} {note}".strip()).metadata["setting"]
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return kinds.with_default(DatasetSetting(**fields, needs=needs), default)
