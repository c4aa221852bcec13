"""A hospital's own file formats: DICOM files and series, NIfTI volumes, and what of them becomes pictures."""
