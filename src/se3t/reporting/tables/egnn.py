"""The N-body benchmark of Satorras et al. 2021 (EGNN): errors of positions beside those that others published."""

from __future__ import annotations

from functools import partial

from se3t.reporting.tables.layout import TableColumn
from se3t.reporting.tables.table1 import Kind
from se3t.reporting.tables.table1 import tables as _tables

EGNN = Kind(
    name="egnn",
    published="egnn",
    measured=(
        TableColumn("MSE x", "mse_x", places=4),
        TableColumn("/ EGNN", "over_egnn_mse_x", style="relative"),
        TableColumn("Δ_EQ x", "equivariance_error_x", style="error"),
    ),
    relative_note="/ EGNN: relative to the published error of EGNN.",
    data="egnn",
    budget="egnn",
)
tables = partial(_tables, kind=EGNN)
"""A table for every data set among runs on ``data.preset=egnn``; see :func:`se3t.reporting.tables.table1.tables`."""
