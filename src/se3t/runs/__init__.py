"""Run records: one folder per run that says what was run and what came out. Imports no torch.

:class:`RunFolder` reads and writes the files of a run, :class:`Fields` is checked access to one of them, and
:class:`RunRecord` is a finished run as tables and figures use it.
"""

from se3t.runs.fields import Fields as Fields
from se3t.runs.files import read_json as read_json
from se3t.runs.folder import RunFolder as RunFolder
from se3t.runs.record import RunRecord as RunRecord
