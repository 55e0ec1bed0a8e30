"""Label maps: one structure per voxel, made whole, and deformed into other patients."""
