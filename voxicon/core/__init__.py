"""What things are: geometry, volumes, masks, concepts. NumPy only; knows no file format and no network."""
