"""The stages of a study, from frozen values to frozen values: plan, data set, fits, portfolios."""
