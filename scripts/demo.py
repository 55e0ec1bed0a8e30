"""Find and measure what the starter weights know: in the chest CT that the package slicerio carries, or in a given one.

Run by ``make demo`` or ``make demo CT=path/to/ct.nii.gz``; results go to ``demo/``.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np

OUT = Path("demo")


def chest_ct(path: Path) -> Path:
    """Write slicerio's coarse chest CT (3 × 3 × 10 mm) as NIfTI and return its path."""
    with resources.as_file(resources.files("slicerio") / "data" / "CTChest4.nrrd") as source:
        values, header = nrrd.read(str(source))
    # NRRD says where voxels are in LPS; NIfTI wants RAS: x and y change sign.
    affine = np.eye(4)
    affine[:3, :3] = np.array(header["space directions"]).T
    affine[:3, 3] = header["space origin"]
    affine = np.diag([-1, -1, 1, 1]) @ affine
    image = nib.Nifti1Image(values.astype(np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def main() -> int:
    """Run the command a user would run, and say where to look."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    scan = given if given is not None else chest_ct(OUT / "chest.nii.gz")
    command = ["voxicon", "ask", str(scan), "Generate a report.", "-o", str(OUT), "--overwrite"]
    print("$", shlex.join(command), flush=True)
    code = subprocess.run([str(Path(sys.executable).with_name("voxicon")), *command[1:]], check=False).returncode
    if code == 0:
        folder = OUT / scan.name.removesuffix(".gz").removesuffix(".nii")
        for name, what in [
            ("report.html", "look here first: open it in a browser"),
            ("preview.png", "the masks in three planes"),
            ("segmentations/", "one mask per class, on the scan's own grid"),
            ("combined_labels.nii.gz", "all in one label map; names inside and in combined_labels.json"),
            ("findings.json", "everything that was measured; measurements.csv for spreadsheets"),
            ("case.json", "volumes, timings, warnings, hashes"),
        ]:
            print(f"  {folder}/{name:<24} {what}")
    return code


if __name__ == "__main__":
    sys.exit(main())
