"""What is explained and learned from: photos, ImageNet's classes, digits, faces, survey.

Photos come as float32 (N, 3, H, W) in [0, 1], with what was annotated in them (tables/*.csv).
Imports core.
"""
