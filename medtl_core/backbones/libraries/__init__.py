"""Networks of other packages: EfficientNet-Lite0 written out, and records of what timm knows."""
