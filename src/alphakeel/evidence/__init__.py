"""What a study's results are worth: performance, its intervals, and where it comes from.

Ledgers, returns and correlations in, data frames out. Every fraction is a fraction (0.01 is 1 %),
a year has 252 days, and intervals are block-bootstrap ones over days unless a table says otherwise
(those of VaR in Table I come from `stats.var_intervals`).
"""
