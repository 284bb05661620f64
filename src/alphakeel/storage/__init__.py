"""Files of the library's own: checkpoints, saved models, and the folders of runs."""
