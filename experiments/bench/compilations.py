r"""Run a program and count what XLA compiled in it, and what came from the persistent cache instead.

python -m experiments.bench.compilations count.json experiments.optimizer_race --epochs=1
"""

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import jax

REQUEST, HIT = (f"/jax/compilation_cache/{event}" for event in ("compile_requests_use_cache", "cache_hits"))


def main() -> None:
    """Run the module named on the command line with the arguments after it; write the counts when it ends."""
    report, module, *arguments = sys.argv[1:]
    seen: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **about: seen.update([event]))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        counts = {"compiled": seen[REQUEST] - seen[HIT], "from_cache": seen[HIT]}
        Path(report).write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
