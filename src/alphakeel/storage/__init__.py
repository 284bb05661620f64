"""Files that the library writes: checkpoints, saved models, and the folders of runs."""
