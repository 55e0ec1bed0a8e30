"""Source grid to model grid and back: whatever preparation does, the trace undoes."""
