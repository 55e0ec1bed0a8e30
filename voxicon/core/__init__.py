"""What things are: geometry, volumes, masks, concepts. Knows no file format and no network."""
