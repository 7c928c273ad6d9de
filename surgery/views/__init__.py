"""Plans, specs and their differences for people: on a terminal, in a pull request.

In: data (`Plan`, `PlanDiff`, `SpecDiff`). Out: text without a final newline, no colour. A view
knows nothing but the data it is given, so whatever it shows is in the JSON as well.
"""
