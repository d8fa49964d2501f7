"""What a run shows: console, figures, TensorBoard events, one page."""
