"""Figures and the self-contained HTML report.

`palette` has the colours; `figures`, `heatmaps`, `hazard_figures` and `sweep_figures` draw arrays;
`cells` writes numbers for people; `verdict` states findings in words and `conventions` how they
are defined; `outcome`, `origin`, `hazards`, `markets`, `workings` and `colophon` say what stands
in each section (`page` is what they share); and `html` makes one page of it all.
"""
