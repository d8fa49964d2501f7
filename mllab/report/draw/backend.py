"""The import of matplotlib, which refuses an unknown name in $MPLBACKEND; drawings need no backend."""

import contextlib
import logging
import os

_name = os.environ.pop("MPLBACKEND", None)
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where its font cache cannot be kept
import matplotlib  # noqa: E402

if _name is not None:  # as matplotlib does, for other users of it in this process
    os.environ["MPLBACKEND"] = _name
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = _name
