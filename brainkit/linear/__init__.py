"""Linear: ridge solvers on arrays, fold generators, estimators' files."""
