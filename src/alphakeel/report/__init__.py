"""Figures and the self-contained HTML report.

`style` has the colours; `charts` and `risk_charts` draw arrays; `table_cells` writes numbers for
people; `findings` states findings in words; `performance`, `risk`, `models` and `method` say what
stands in each section (`sections` is what they share); and `page` makes one page of it all.
"""
