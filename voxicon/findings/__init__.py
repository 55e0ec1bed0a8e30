"""What masks say in numbers: organs, lesions, and where a lesion lies. Needs neither torch nor a network.

Everything is measured in the scan's own voxels, in mm and RAS, on the box that a mask fills.
"""
