"""The systematic search: which fluctuations wake which map of a layer, and what they lead to.

`plan` says what there is to do, `work` does a piece of it, `store` keeps it in one file, `run`
brings them together on this machine and `cluster` on several, `findings` reads the answers
(with `likeness` and `starters`), `pictures` and `report` show them.
"""

from .findings import Survey
from .load import load_survey
from .plan import grid, sobol
from .run import survey

__all__ = ["Survey", "grid", "load_survey", "sobol", "survey"]
