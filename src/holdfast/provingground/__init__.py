"""The offline world: its texts, its tiny aligned model, and the experiments on it."""
