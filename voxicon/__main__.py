"""``python -m voxicon``, and what ``torchrun -m voxicon`` starts."""

from voxicon.cli.main import main

if __name__ == "__main__":
    main()
