"""Attribution methods: ``method(classifier, images, targets, *, ...) -> maps``.

Maps are ``(N, C, H, W)`` or ``(N, 1, H, W)``, signed and raw. ``METHODS`` names every method, so
that a parameter file can choose. Imports copies, networks and core.
"""

from collections.abc import Callable

from lib.attribution.attention import attention_rollout, token_grad_cam
from lib.attribution.cam import cam
from lib.attribution.controls import edges, random
from lib.attribution.deeplift import deeplift
from lib.attribution.excitation_backprop import contrastive_excitation_backprop, excitation_backprop
from lib.attribution.expected_gradients import expected_gradients
from lib.attribution.grad_cam import grad_cam, guided_grad_cam
from lib.attribution.grad_cam_plus_plus import grad_cam_plus_plus
from lib.attribution.gradient import gradient, input_x_gradient
from lib.attribution.guided_backprop import guided_backprop
from lib.attribution.integrated_gradients import integrated_gradients
from lib.attribution.kernel_shap import kernel_shap
from lib.attribution.lime import lime
from lib.attribution.lrp import lrp_epsilon, lrp_z_plus
from lib.attribution.meaningful_perturbation import meaningful_perturbation
from lib.attribution.occlusion import occlusion
from lib.attribution.rise import rise
from lib.attribution.smoothgrad import smoothgrad
from lib.attribution.x_gradient import x_gradient

METHODS: dict[str, Callable] = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "expected_gradients": expected_gradients,
    "x_gradient": x_gradient,
    "deeplift": deeplift,
    "lrp_epsilon": lrp_epsilon,
    "lrp_z_plus": lrp_z_plus,
    "guided_backprop": guided_backprop,
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "guided_grad_cam": guided_grad_cam,
    "attention_rollout": attention_rollout,
    "token_grad_cam": token_grad_cam,
    "occlusion": occlusion,
    "rise": rise,
    "lime": lime,
    "kernel_shap": kernel_shap,
    "excitation_backprop": excitation_backprop,
    "contrastive_excitation_backprop": contrastive_excitation_backprop,
    "meaningful_perturbation": meaningful_perturbation,
    "random": random,
    "edges": edges,
}

__all__ = ["METHODS", *METHODS]  # pyright: ignore[reportUnsupportedDunderAll]
