"""From partly labelled scans to weights."""
