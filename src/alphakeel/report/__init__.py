"""Figures and the self-contained HTML report.

`palette` has the colours, `figures` and `heatmaps` draw arrays, `cells` writes numbers for
people, `verdict` states findings in words, `outcome` and `workings` say what stands in each
section (`page` is what they share), and `html` makes one page of it all.
"""
