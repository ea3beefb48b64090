"""Arrays: lazy readers, atomic writes, seeds, memory-sized batches, progress."""
