"""Models: modules and packages of pure functions. `table` lists those that minibatches train, by name."""
