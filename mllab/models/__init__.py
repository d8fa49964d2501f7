"""Models: modules of pure functions, one file each."""
