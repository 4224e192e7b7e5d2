class GradientFlow:
    pass
