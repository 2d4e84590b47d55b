"""Events on disk and on their way to the ranks: larcv3 files, readers, sampling and fixed-size batches."""
