"""From a prepared scan to masks: windows, streaming prediction, cleanup."""
