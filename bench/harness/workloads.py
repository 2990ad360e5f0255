"""What is measured, in the order of the table."""

from .rows_build import build_rows
from .rows_images import image_rows
from .rows_run import run_rows


def all_workloads():
    """Returns every workload in the order of the table."""
    return [*run_rows(), *build_rows(), *image_rows()]
