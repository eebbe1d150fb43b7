"""How small networks are trained: recipes, attribution priors, ensembles of them side by side.

The networks of the reports that compare trainings; what was trained is kept in the cache.
Imports networks, data and core.
"""
