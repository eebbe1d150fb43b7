"""Protocols: what a map is worth. One protocol, one file; imports attribution and what is below.

``PROTOCOLS`` names those that turn photos into rows (:mod:`lib.rows`), as ``module:function``, so
that naming one imports none: ``protocol(classifier, photos, pixels, parameters) -> DataFrame``.
"""

PROTOCOLS: dict[str, str] = {
    "removal": "lib.evaluation.removal:removal",
    "localization": "lib.evaluation.localization:localization",
}
