"""`shardprof bench`: the matrix of trainings that a study file names, run fairly, measured and compared."""
