r"""Known attacks as data, for any integration: write a `Site`, and `check` it with every case.

The cases are the JSON files beside this module, in the manner of Wycheproof. A group has a name, what it is about, and
the ids of the failures that it comes from; a case has an id, a comment, an input, and whether that is ``"valid"``,
``"invalid"`` or ``"acceptable"``. Other languages may read them too: they are ASCII, with ``\u`` escapes.
``python -m resetkit.testing.vectors`` counts them. No extra is needed.
"""

from resetkit.testing.vectors._cases import Case, Group, cases, groups
from resetkit.testing.vectors._run import check, run
from resetkit.testing.vectors._site import LINK, Mailed, OpenSite, Site

__all__ = ["LINK", "Case", "Group", "Mailed", "OpenSite", "Site", "cases", "check", "groups", "run"]
