"""How an explanation is judged: one protocol, one file, from maps or scores to tidy rows.

``PROTOCOLS`` names those that turn photos into rows (:mod:`lib.rows`), as ``module:function``, so
that naming one imports none: ``protocol(classifier, photos, pixels, parameters) -> DataFrame``. A
protocol never computes an interval: that is the business of the report.
Imports attribution, copies, networks, data and core.
"""

PROTOCOLS: dict[str, str] = {
    "removal": "lib.evaluation.removal:removal",
    "localization": "lib.evaluation.localization:localization",
    "masking": "lib.evaluation.masking:masking",
    "own_cell": "lib.evaluation.mosaics:own_cell",
    "class_maps": "lib.evaluation.class_maps:class_maps",
    "box_overlap": "lib.evaluation.weak_localization:box_overlap",
    "channel_ablation": "lib.evaluation.channel_ablation:channel_ablation",
    "saturation": "lib.evaluation.saturation:saturation",
    "convergence": "lib.evaluation.quadrature:convergence",
    "sharpness": "lib.evaluation.sharpness:sharpness",
    "small_step": "lib.evaluation.agreement:small_step",
    "copy_convergence": "lib.evaluation.agreement:copy_convergence",
    "carry_over": "lib.evaluation.transfer:carry_over",
    "blurred_boxes": "lib.evaluation.deletion_regions:blurred_boxes",
    "thresholded": "lib.evaluation.deletion_regions:thresholded",
    "animal_parts": "lib.evaluation.parts:animal_parts",
    "detection": "lib.evaluation.detection:detection",
    "restoration": "lib.evaluation.detection:restoration",
    "mask_draws": "lib.evaluation.mask_draws:mask_draws",
    "linear_fit": "lib.evaluation.fidelity:linear_fit",
    "randomization": "lib.evaluation.randomization:randomization",
    "benchmark": "lib.evaluation.benchmark:benchmark",
}
