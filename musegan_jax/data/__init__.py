"""MIDI and corpus readers, the dataset file, and batches."""
