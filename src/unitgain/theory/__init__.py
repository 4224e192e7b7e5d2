"""Signal propagation in wide networks at initialization: pure functions of numbers, in float64.

Maps of lengths and correlations (Poole et al. 2016, arXiv 1606.05340), their fixed points and depth scales
(Schoenholz et al. 2017, arXiv 1611.01232), Jacobian spectra (Pennington et al. 2017, arXiv 1711.04735).
"""
