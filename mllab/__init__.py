"""mllab: a laboratory for machine learning in JAX, where a training run is a pure function."""
