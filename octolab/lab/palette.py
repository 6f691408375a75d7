"""The colours and dashes that every chart of octolab draws with: one method looks the same everywhere."""

from __future__ import annotations

# Okabe and Ito's colour-blind safe colours, the strongest on white first; dashes tell lines apart in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
