"""Distribution shift: density ratios, their transforms and diagnostics, as pure functions of tensors."""
