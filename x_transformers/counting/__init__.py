"""What a model holds, computes and remembers: imported when `model.flops` or `model.summary` is first called."""
