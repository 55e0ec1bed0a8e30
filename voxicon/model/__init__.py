"""Networks: tensors in, logits out. Knows no file but checkpoints, no organ, no dataset."""
