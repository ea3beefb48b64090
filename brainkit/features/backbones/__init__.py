"""Models as sources of features, one module for each library."""
