"""Storage: files on disk, and folders of sweeps on disk or in an object store."""
