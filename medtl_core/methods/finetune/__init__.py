"""Fine-tuning of the shared backbone: whole layers or adapters."""
