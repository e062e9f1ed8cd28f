"""A run on disk: record, checkpoints, fingerprints, logs. The state is any tree of arrays."""
