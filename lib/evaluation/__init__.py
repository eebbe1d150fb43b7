"""How an explanation is judged: one protocol, one file, from maps or scores to tidy rows.

``PROTOCOLS`` names those that turn photos into rows (:mod:`lib.rows`), as ``module:function``, so
that naming one imports none: ``protocol(classifier, photos, pixels, parameters) -> DataFrame``. A
protocol never computes an interval: that is the business of the report.
Imports attribution, copies, networks, data and core.
"""

PROTOCOLS: dict[str, str] = {
    "removal": "lib.evaluation.removal:removal",
    "background_first": "lib.evaluation.removal:background_first",
    "localization": "lib.evaluation.localization:localization",
    "own_cell": "lib.evaluation.mosaics:own_cell",
    "mask_draws": "lib.evaluation.mask_draws:mask_draws",
    "linear_fit": "lib.evaluation.fidelity:linear_fit",
}
